use headwise_cache::{BlockPool, KvCache, block_layout};
use headwise_core::Codec;
use headwise_model::{Model, NoTap, Span, Wanted, Workspace};
use std::time::Instant;
fn main() {
    let path = std::env::var("HEADWISE_MODEL").unwrap();
    let a: Vec<usize> = std::env::args().skip(1).map(|x| x.parse().unwrap()).collect();
    let (threads, slots, sessions, steps) = (a[0], a[1], a[2], a[3]);
    let model = Model::load(std::path::Path::new(&path), &mut |_| {}).unwrap();
    let shape = model.shape();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let bp = BlockPool::new(block_layout(shape.head_dim, Codec::F16), None).unwrap();
        let mut s = 1u64;
        let n = shape.kv_heads * shape.head_dim;
        let data: Vec<f32> = (0..slots * n).map(|_| { s ^= s << 13; s ^= s >> 7; s ^= s << 17; (s >> 40) as f32 / (1 << 23) as f32 - 1.0 }).collect();
        let mut taps_unused = (); let _ = &mut taps_unused; let mut caches: Vec<KvCache> = (0..sessions).map(|_| { let mut c = KvCache::new(bp.clone(), shape).unwrap(); for l in 0..shape.layers { c.append(l, &data, &data, 0).unwrap(); } c }).collect();
        let mut space = Workspace::default();
        let mut times = vec![];
        for _ in 0..steps {
            let t = Instant::now();
            let mut taps: Vec<NoTap> = (0..sessions).map(|_| NoTap).collect();
            let mut spans: Vec<Span> = caches.iter_mut().zip(&mut taps).map(|(cache, tap)| Span { tokens: &[42], cache, tap, logits: Wanted::Last }).collect();
            std::hint::black_box(model.forward(&mut spans, &mut space, None).unwrap());
            times.push(t.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        println!("threads {threads} slots {slots} sessions {sessions}: median {:.2} best {:.2} ms", times[steps / 2], times[0]);
    });
}
