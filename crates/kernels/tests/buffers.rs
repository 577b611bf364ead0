//! Memory of buffers, resident in this process: one test, so that nothing else takes or gives back beside it.

#![cfg(target_os = "linux")]

use headwise_core::Codec;
use headwise_kernels::{BlockLayout, HeadView, ReuseBuffers};

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("a process");
    let pages: usize = statm.split_whitespace().nth(1).expect("a second number").parse().expect("a number");
    pages * 4096
}

#[test]
fn memory_is_used_again_while_somebody_says_so_and_the_systems_afterwards() {
    // 64 MB in blocks of 4 MB.
    let layout = BlockLayout { codec: Codec::F32, head_dim: 64, slots: 8192 };
    let blocks = vec![vec![1u8; layout.bytes()]; 32];
    let head = HeadView { layout, blocks: &blocks, len: 32 * 8192 };
    let (size, start) = (head.len * 64 * 4, resident());
    let near = |bytes: usize| resident().abs_diff(start + bytes) < size / 8;

    let keys = head.all_keys();
    assert!(near(size));
    drop(keys);
    assert!(near(0), "nobody said that it is used again");

    let (first, second) = (ReuseBuffers::start(), ReuseBuffers::start());
    let keys = head.all_keys();
    let place = keys.as_ptr();
    drop(keys);
    assert!(near(size), "it lies ready");
    let values = head.all_values();
    assert!(near(size) && values.as_ptr() == place);
    drop(first);
    assert!(near(size), "it is not ready but in use");
    drop(values);
    assert!(near(size));
    drop(second);
    assert!(near(0), "nobody needs it any more");
}
