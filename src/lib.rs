//! Idontstore
