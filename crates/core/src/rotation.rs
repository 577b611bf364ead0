use std::fmt::Debug;

/// How a model turns queries and keys by their position (rotary embedding): what makes un-rotated keys out of stored ones.
///
/// Turning by the cosines and the negated sines of a position undoes turning by it.
pub trait Rotation: Debug + Sync {
    /// Appends cosine and sine of every frequency at `position`: `[head_dim / 2]` each.
    fn push_angles(&self, position: u32, cos: &mut Vec<f32>, sin: &mut Vec<f32>);

    /// Turns every head of one row, `[heads][head_dim]`, by these cosines and sines, `[head_dim / 2]` each. They may be means over positions.
    fn rotate(&self, row: &mut [f32], cos: &[f32], sin: &[f32]);

    /// Turns rows from one position to another: all by the same angles, so once however many they are.
    fn renumber(&self, rows: &mut [f32], from: u32, to: u32) {
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        self.push_angles(from.abs_diff(to), &mut cos, &mut sin);
        if to < from {
            sin.iter_mut().for_each(|sin| *sin = -*sin);
        }
        self.rotate(rows, &cos, &sin);
    }
}
