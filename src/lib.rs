//! Idontstore
pub mod config;
pub mod sys;
