//! Every implementation of every kernel against its f64 reference, over one table of shapes, plus properties.

mod attend;
mod attend_sums;
mod edges;
mod outputs;
mod scores;
mod selection;
mod support;
mod vectors;
