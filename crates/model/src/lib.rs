//! headwise.
