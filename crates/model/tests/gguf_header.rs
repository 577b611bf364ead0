//! The GGUF reader against files that are right and files that are wrong in one place.

mod common;

use common::{F32, Writer, next, text, tiny_llama};
use headwise_core::Error;
use headwise_model::gguf::Gguf;

fn parse(file: &Writer) -> Result<(), Error> {
    Gguf::parse(&file.bytes(), "test.gguf").map(|_| ())
}

fn malformed(file: &Writer, needle: &str) {
    match parse(file) {
        Err(Error::MalformedFile { reason, .. }) => assert!(reason.contains(needle), "{reason}"),
        other => panic!("{needle}: {other:?}"),
    }
}

fn unsupported(file: &Writer, value: &str) {
    match parse(file) {
        Err(Error::UnsupportedFeature { value: got, .. }) => assert_eq!(got, value),
        other => panic!("{value}: {other:?}"),
    }
}

#[test]
fn every_kind_of_value_is_read_back() {
    let mut file = Writer::default();
    file.raw("u8", 0, &[200])
        .raw("i8", 1, &[0xff])
        .raw("u16", 2, &40_000u16.to_le_bytes())
        .raw("i16", 3, &(-2i16).to_le_bytes())
        .raw("u32", 4, &4_000_000_000u32.to_le_bytes())
        .raw("i32", 5, &(-3i32).to_le_bytes())
        .raw("f32", 6, &1.5f32.to_le_bytes())
        .raw("bool", 7, &[1])
        .raw("u64", 10, &u64::MAX.to_le_bytes())
        .raw("i64", 11, &(-4i64).to_le_bytes())
        .raw("f64", 12, &2.25f64.to_le_bytes())
        .string("string", "½ ok")
        .strings("strings", &["a", "", "ccc"])
        .i32s("numbers", &[-1, 7]);
    file.raw("latin1", 8, &[&2u64.to_le_bytes()[..], &[b'a', 0xe9]].concat());
    let nested =
        [&9u32.to_le_bytes()[..], &1u64.to_le_bytes(), &0u32.to_le_bytes(), &2u64.to_le_bytes(), &[8, 9]].concat();
    file.raw("nested", 9, &nested);
    file.f32_tensor("t", &[3, 2], &[1.0; 6]);
    for version in [2, 3] {
        file.version = version;
        let bytes = file.bytes();
        let gguf = Gguf::parse(&bytes, "test.gguf").unwrap();
        assert_eq!(gguf.u64("u8").unwrap(), Some(200));
        assert_eq!(gguf.get("i8").unwrap().as_i64(), Some(-1));
        assert_eq!(gguf.u64("u16").unwrap(), Some(40_000));
        assert_eq!(gguf.get("i16").unwrap().as_i64(), Some(-2));
        assert_eq!(gguf.u64("u32").unwrap(), Some(4_000_000_000));
        assert_eq!(gguf.get("i32").unwrap().as_i64(), Some(-3));
        assert!(gguf.u64("i32").is_err());
        assert_eq!(gguf.f64("f32").unwrap(), Some(1.5));
        assert_eq!(gguf.bool("bool").unwrap(), Some(true));
        assert_eq!(gguf.u64("u64").unwrap(), Some(u64::MAX));
        assert_eq!(gguf.get("i64").unwrap().as_i64(), Some(-4));
        assert_eq!(gguf.f64("f64").unwrap(), Some(2.25));
        assert_eq!(gguf.string("string").unwrap().as_deref(), Some("½ ok"));
        assert_eq!(gguf.string("latin1").unwrap().as_deref(), Some("a\u{fffd}"));
        assert_eq!(gguf.strings("strings").unwrap().unwrap(), ["a", "", "ccc"]);
        assert_eq!(gguf.array("numbers").unwrap().unwrap().integers().unwrap(), [-1, 7]);
        assert_eq!(gguf.array("nested").unwrap().unwrap().len(), 1);
        assert_eq!(gguf.u64("absent").unwrap(), None);
        assert!(gguf.strings("numbers").is_err());
        let tensor = &gguf.tensors()["t"];
        assert_eq!(tensor.dimensions, [3, 2]);
        assert_eq!(bytes[tensor.range.clone()], [1.0f32; 6].map(f32::to_le_bytes).concat());
    }
}

#[test]
fn a_file_that_ends_anywhere_in_its_header_or_data_is_truncated() {
    let bytes = {
        let mut file = tiny_llama();
        file.strings("tokenizer.ggml.tokens", &["a", "b"]).i32s("tokenizer.ggml.token_type", &[1, 1]);
        // The padding after the last tensor is not needed.
        let padding = file.tensors.last().map_or(0, |t| t.data.len().next_multiple_of(32) - t.data.len());
        let mut bytes = file.bytes();
        bytes.truncate(bytes.len() - padding);
        bytes
    };
    assert!(Gguf::parse(&bytes, "").is_ok());
    for end in 0..bytes.len() {
        match Gguf::parse(&bytes[..end], "cut.gguf") {
            Err(Error::TruncatedFile { path, need, have, .. }) => {
                assert_eq!((path.as_str(), have), ("cut.gguf", end as u64));
                assert!(need > have);
            }
            other => panic!("{end}: {other:?}"),
        }
    }
}

#[test]
fn wrong_magic_version_and_byte_order_are_named() {
    let mut bytes = tiny_llama().bytes();
    bytes[0] = b'g';
    assert!(matches!(Gguf::parse(&bytes, ""), Err(Error::MalformedFile { reason, .. }) if reason.contains("magic")));
    unsupported(&Writer { version: 1, ..Writer::default() }, "1");
    unsupported(&Writer { version: 4, ..Writer::default() }, "4");
    unsupported(&Writer { version: 3u32.swap_bytes(), ..Writer::default() }, "big-endian");
    unsupported(Writer::default().u32("split.count", 2), "split into several files");
}

#[test]
fn tensor_types_without_a_kernel_are_refused_by_name() {
    for (kind, name) in [(20, "IQ4_NL"), (16, "IQ2_XXS"), (28, "F64"), (39, "MXFP4"), (77, "77")] {
        unsupported(Writer::default().tensor("t", &[32], kind, vec![0; 256]), name);
    }
}

#[test]
fn duplicates_empty_names_and_unknown_types_are_malformed() {
    malformed(Writer::default().u32("a", 1).u32("a", 2), "occurs twice");
    malformed(Writer::default().f32_tensor("t", &[1], &[0.0]).f32_tensor("t", &[1], &[0.0]), "occurs twice");
    malformed(Writer::default().u32("", 1), "empty");
    malformed(Writer::default().raw("a", 13, &[0; 8]), "unknown type 13");
    let array_of_unknown = [&99u32.to_le_bytes()[..], &0u64.to_le_bytes()].concat();
    malformed(Writer::default().raw("a", 9, &array_of_unknown), "unknown type 99");
    let mut bytes = Writer::default().u32("ab", 1).bytes();
    let at = bytes.windows(2).position(|pair| pair == b"ab").unwrap();
    bytes[at] = 0xff;
    assert!(matches!(Gguf::parse(&bytes, ""), Err(Error::MalformedFile { reason, .. }) if reason.contains("UTF-8")));
}

#[test]
fn arrays_nest_only_so_deep() {
    let mut value = [&0u32.to_le_bytes()[..], &0u64.to_le_bytes()].concat();
    for _ in 0..3 {
        value = [&9u32.to_le_bytes()[..], &1u64.to_le_bytes(), &value].concat();
    }
    assert!(parse(Writer::default().raw("a", 9, &value)).is_ok());
    for _ in 0..10_000 {
        value = [&9u32.to_le_bytes()[..], &1u64.to_le_bytes(), &value].concat();
    }
    malformed(Writer::default().raw("a", 9, &value), "deeper");
}

#[test]
fn shapes_that_cannot_be_are_malformed() {
    malformed(Writer::default().tensor("t", &[], F32, vec![]), "0 dimensions");
    malformed(Writer::default().tensor("t", &[1; 5], F32, vec![0; 4]), "5 dimensions");
    malformed(Writer::default().tensor("t", &[0, 4], F32, vec![]), "impossible shape");
    malformed(Writer::default().tensor("t", &[1 << 40, 1 << 40], F32, vec![]), "impossible shape");
    malformed(Writer::default().tensor("t", &[u64::MAX], F32, vec![]), "impossible shape");
    malformed(Writer::default().tensor("t", &[31], common::Q8_0, vec![0; 34]), "impossible shape");
}

#[test]
fn data_is_aligned_inside_the_file_and_does_not_overlap() {
    let two = |offset: u64| {
        let mut file = Writer::default();
        file.f32_tensor("a", &[16], &[0.0; 16]).f32_tensor("b", &[16], &[0.0; 16]);
        file.tensors[1].offset = Some(offset);
        file
    };
    assert!(parse(&two(64)).is_ok());
    malformed(&two(4), "not aligned");
    malformed(&two(32), "overlap");
    for offset in [128, 1 << 40, u64::MAX - 31] {
        assert!(matches!(parse(&two(offset)), Err(Error::TruncatedFile { .. })), "{offset}");
    }
    for alignment in [0, 4, 24, 1 << 30] {
        malformed(Writer::default().u32("general.alignment", alignment), "alignment");
    }
    let wide = Writer { alignment: 256, ..Writer::default() }.u32("general.alignment", 256).clone();
    let mut wide = Writer { metadata: wide.metadata, ..Writer { alignment: 256, ..Writer::default() } };
    wide.f32_tensor("a", &[1], &[1.0]).f32_tensor("b", &[1], &[2.0]);
    let bytes = wide.bytes();
    let gguf = Gguf::parse(&bytes, "").unwrap();
    assert_eq!(bytes[gguf.tensors()["b"].range.clone()], 2.0f32.to_le_bytes());
}

#[test]
fn counts_and_lengths_beyond_the_file_allocate_nothing() {
    let mut bytes = tiny_llama().bytes();
    for (at, what) in [(8, "tensor count"), (16, "metadata count"), (24, "key length")] {
        let kept: [u8; 8] = bytes[at..at + 8].try_into().unwrap();
        for value in [u64::MAX, 1 << 62, 1 << 40] {
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            assert!(Gguf::parse(&bytes, "").is_err(), "{what} = {value}");
        }
        bytes[at..at + 8].copy_from_slice(&kept);
    }
    for kind in [0u32, 7, 8, 9, 12] {
        let value = [&kind.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat();
        let result = parse(Writer::default().raw("a", 9, &value));
        assert!(matches!(result, Err(Error::TruncatedFile { .. } | Error::MalformedFile { .. })), "{kind}: {result:?}");
    }
    assert!(matches!(parse(Writer::default().raw("a", 8, &u64::MAX.to_le_bytes())), Err(Error::TruncatedFile { .. })));
}

#[test]
fn no_mutation_of_a_header_panics() {
    let original = {
        let mut file = tiny_llama();
        file.strings("tokenizer.ggml.tokens", &["a", "b"]).raw("text", 8, &text("x")).i32s("types", &[1, 2, 3]);
        file.bytes()
    };
    let header = 900;
    let mut seed = 7;
    for _ in 0..20_000 {
        let mut bytes = original.clone();
        for _ in 0..1 + next(&mut seed) % 4 {
            let at = next(&mut seed) as usize % header;
            match next(&mut seed) % 3 {
                0 => bytes[at] ^= 1 << (next(&mut seed) % 8),
                1 => bytes[at] = next(&mut seed) as u8,
                _ => {
                    let extreme = [0, 1, u64::MAX, u64::MAX - 31, 1 << 63, 1 << 32][next(&mut seed) as usize % 6];
                    bytes[at..at + 8].copy_from_slice(&extreme.to_le_bytes());
                }
            }
        }
        if let Ok(gguf) = Gguf::parse(&bytes, "") {
            for info in gguf.tensors().values() {
                assert!(info.range.end <= bytes.len());
            }
        }
    }
}
