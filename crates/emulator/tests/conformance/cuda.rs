//! Heads of the table of shapes in the memory of a device.

use crate::support::Head;
use headwise_emulator::{Emulator, Memory};
use headwise_kernels::gpu::{DeviceMemory, Gpu, Heads, upload};

/// Two orders in which the threads of a block take turns.
pub fn emulators() -> [Emulator; 2] {
    [Emulator { seed: 1 }, Emulator { seed: 77 }]
}

/// The blocks of some heads of one layout and their tables.
pub struct OnDevice {
    pub heads: Heads<Memory>,
    pub blocks: Vec<Vec<Memory>>,
    head_dim: usize,
}

impl OnDevice {
    pub fn new(gpu: &Emulator, heads: &[Head]) -> Self {
        let upload = |block: &Vec<u8>| upload(gpu, block).expect("memory");
        let blocks: Vec<Vec<Memory>> = heads.iter().map(|head| head.blocks.iter().map(upload).collect()).collect();
        let addresses: Vec<Vec<u64>> =
            blocks.iter().map(|blocks| blocks.iter().map(DeviceMemory::address).collect()).collect();
        let tables: Vec<(usize, &[u64])> =
            heads.iter().zip(&addresses).map(|(head, blocks)| (head.len, &blocks[..])).collect();
        let head_dim = heads[0].layout.head_dim;
        // SAFETY: the blocks are kept beside their tables.
        let heads = unsafe { Heads::new(gpu, heads[0].layout, &tables) }.expect("valid tables");
        Self { heads, blocks, head_dim }
    }

    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// What the blocks of head `index` hold now.
    pub fn bytes(&self, gpu: &Emulator, index: usize) -> Vec<Vec<u8>> {
        let read = |block: &Memory| {
            let mut bytes = vec![0; block.len()];
            gpu.read(block, 0, &mut bytes).expect("in range");
            bytes
        };
        self.blocks[index].iter().map(read).collect()
    }
}
