//! Idontstore
pub mod cli;
pub mod config;
pub mod sys;
pub mod worker;
