//! How the budget is split over the layers.

use headwise_core::Result;

use crate::registry::registry;

/// Splits the slots that no protection has taken.
pub trait Allocate {
    /// Slots per layer, `[layers]`: none above `available[layer]`, summing to exactly `min(budget, Σ available)`.
    fn allocate(&self, budget: usize, available: &[usize]) -> Vec<usize>;

    /// Checks the options.
    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

registry! {
    ($)
    /// How the budget is split over the layers.
    pub enum Allocator via with_allocator {
        uniform::Uniform = "uniform",
        pyramid::Pyramid = "pyramid",
    }
}

impl Allocate for Allocator {
    fn allocate(&self, budget: usize, available: &[usize]) -> Vec<usize> {
        with_allocator!(self, allocator => allocator.allocate(budget, available))
    }

    fn validate(&self) -> Result<()> {
        with_allocator!(self, allocator => allocator.validate())
    }
}

impl Default for Allocator {
    fn default() -> Self {
        Self::Uniform(Uniform {})
    }
}
