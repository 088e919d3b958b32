//! Idontstore

pub mod cli;
pub mod config;
