use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::Allocate;
use crate::apportion;

/// Every layer gets the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
pub struct Uniform {}

impl Allocate for Uniform {
    fn allocate(&self, budget: usize, available: &[usize]) -> Vec<usize> {
        apportion(budget, &vec![1.0; available.len()], available)
    }
}
