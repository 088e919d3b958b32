//! Idontstore

pub mod config;
