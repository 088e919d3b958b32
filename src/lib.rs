//! Idontstore
pub mod sys;
