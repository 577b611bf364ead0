//! Cases of one layer: parameters become the JSON of a policy, the policy does the rest.

use headwise_core::{Ragged, Scores, Selection};
use headwise_policy::compat::kvpress;
use headwise_policy::{
    Compactor, Compat, Filter, LayerInput, Needs, Policy, PolicySpec, Scorer, SecondStage, channels,
};
use serde_json::{Map, Value, json};

use super::case::{Case, Miss, Outcome, count, fail, number};
use super::compare;
use super::layer::Layer;

/// Kinds that [`run`] knows.
pub const KINDS: &[&str] = &[
    "snapkv",
    "pyramidkv",
    "knorm",
    "keydiff",
    "tova",
    "lagkv",
    "cur",
    "observed_attention",
    "streaming_llm",
    "adakv_snapkv",
    "adakv_base",
    "h2o",
    "snapkv_repo",
    "streaming_llm_repo",
    "adakv_repo",
    "adakv_repo_pyramid",
    "n_kept",
    "pyramid_budgets",
    "expected_attention",
    "leverage",
    "non_causal_attn",
    "compactor",
    "criticalkv",
    "critical_adakv",
    "chunkkv",
    "chunk_press",
    "block_press",
    "key_rerotation",
    "defensivekv",
    "layer_defensivekv",
    "simlayerkv",
    "think",
];

/// Runs a case of one layer.
pub fn run(case: &Case) -> Outcome {
    match case.kind.as_str() {
        "n_kept" => n_kept(case),
        "pyramid_budgets" => pyramid_budgets(case),
        "block_press" => block_press(case),
        "simlayerkv" => sim_layer(case),
        "think" => think(case),
        kind if kind == "h2o" || kind.contains("_repo") => repository(case),
        _ => press(case),
    }
}

/// The policy of a kvpress kind at a compression ratio.
pub fn kvpress_policy(case: &Case, kind: &str, ratio: f64) -> Outcome<Policy> {
    let mut spec = match kind {
        "snapkv" => snap_kv(case)?,
        "pyramidkv" => with(snap_kv(case)?, json!({ "kind": "pyramidKV", "beta": case.count("beta")? })),
        "knorm" => json!({ "kind": "knorm" }),
        "keydiff" => json!({ "kind": "keyDiff" }),
        "tova" => json!({ "kind": "tova" }),
        "lagkv" => json!({
            "kind": "lagKV",
            "first": case.count("n_sink")?,
            "lag": case.count("lag_size")?,
            "crossPartition": case.flag("cross_scoring")?,
        }),
        "cur" => cur(case)?,
        "observed_attention" => json!({ "kind": "observedAttention" }),
        "expected_attention" => json!({
            "kind": "expectedAttention",
            "first": case.count("n_sink")?,
            "future": case.count("n_future_positions")?,
            "covariance": case.flag("use_covariance")?,
            "valueNorm": case.flag("use_vnorm")?,
            "epsilon": case.number("epsilon")?,
        }),
        "leverage" => json!({ "kind": "leverage", "sketch": case.count("sketch_dim")? }),
        "non_causal_attn" => json!({ "kind": "nonCausal", "chunk": case.count("chunk_size")? }),
        "compactor" => json!({
            "kind": "compactor",
            "first": case.count("sink_size_start")?,
            "last": case.count("sink_size_end")?,
            "blending": case.number("blending").unwrap_or(ratio),
            "leverage": { "sketch": case.count("sketch_dim")? },
            "attention": { "chunk": case.count("chunk_size")? },
        }),
        "criticalkv" | "critical_adakv" => {
            let selector = match kind {
                "criticalkv" => json!({ "kind": "perHead" }),
                _ => json!({ "kind": "acrossHeads", "floor": case.number("alpha_safeguard")? }),
            };
            let stage =
                json!({ "first": case.number("first_stage_ratio")?, "epsilon": case.number("epsilon")?, "norm": "l1" });
            json!({ "kind": "custom", "scorer": base(case)?, "selector": selector, "secondStage": stage })
        }
        "chunkkv" => {
            let chunks = json!({ "kind": "chunks", "length": case.count("chunk_length")? });
            json!({ "kind": "custom", "scorer": base(case)?, "selector": chunks })
        }
        "chunk_press" => {
            let length = case.count("chunk_length")?;
            json!({
                "kind": "custom",
                "scorer": { "kind": "local", "base": base(case)?, "length": length },
                "selector": { "kind": "perChunk", "length": length },
            })
        }
        "key_rerotation" => base(case)?,
        "defensivekv" | "layer_defensivekv" => {
            let scorer = json!({ "kind": "defensive", "window": case.count("window")?, "kernel": case.count("kernel")?, "norm": "l1" });
            let selector = if kind == "defensivekv" { "acrossHeads" } else { "acrossLayers" };
            let selector = json!({ "kind": selector });
            let compat = json!({ "compat": "defensiveKv", "budget": { "ratio": ratio } });
            return resolve(with(json!({ "kind": "custom", "scorer": scorer, "selector": selector }), compat));
        }
        "streaming_llm" => json!({ "kind": "streamingLLM", "sinks": case.count("n_sink")? }),
        "adakv_snapkv" => json!({ "kind": "adaKV", "base": snap_kv(case)? }),
        "adakv_base" => json!({ "kind": "adaKV", "base": base(case)? }),
        "full" => return resolve(json!({ "kind": "full" })),
        other => return Err(Miss::Unsupported(format!("policy {other}"))),
    };
    if kind.starts_with("adakv") {
        spec = with(spec, json!({ "floor": case.number("alpha_safeguard")? }));
    }
    let mut policy = resolve(with(spec, json!({ "compat": "kvpress", "budget": { "ratio": ratio } })))?;
    match &mut policy.scorer {
        Scorer::LeverageScore(leverage) | Scorer::Compactor(Compactor { leverage, .. }) => {
            leverage.given = Some(case.floats("sketch")?.1.to_vec());
        }
        _ => {}
    }
    Ok(policy)
}

fn press(case: &Case) -> Outcome {
    let layers = Layer::all(case)?;
    let budgets = budgets(case)?;
    let of_layers = match case.has("layer_budget") {
        true => Some(rows(case, "layer_budget", case.count("num_layers")?)?),
        false => None,
    };
    if of_layers.as_ref().is_some_and(|rows| rows.len() != budgets.len()) {
        return fail("layer_budget does not have one row for every budget");
    }
    for (index, budget) in budgets.iter().enumerate() {
        let policy = kvpress_policy(case, &case.kind, number(budget, "compression_ratio")?)?;
        check(case, &layers, &policy, tag(budget)?)?;
        if let Some(rows) = &of_layers {
            let expected = rows[index];
            let got = Compat::Kvpress.lengths(&policy, case.count("T")?, expected.len())?;
            compare::integers("layer_budget", got, expected)?;
        }
    }
    Ok(())
}

fn repository(case: &Case) -> Outcome {
    let layers = Layer::all(case)?;
    let factory = match case.optional("variant", Case::word)? {
        Some("kf") => true,
        Some("ada") | None => case.source.contains("KVCache-Factory"),
        Some(other) => return Err(Miss::Unsupported(format!("variant {other}"))),
    };
    // StreamingLLM of the AdaKV repository has a window of its own: whatever the case says is only read, not used.
    case.optional("window", Case::count)?;
    let compat = if factory { "kvcacheFactory" } else { "adakv" };
    for budget in budgets(case)? {
        let capacity = match budget.contains_key("max_capacity_prompt") {
            true => count(budget, "max_capacity_prompt")?,
            false => count(budget, "base_capacity_incl_window")?,
        };
        let spec = match case.kind.as_str() {
            "streaming_llm_repo" if factory => {
                json!({ "kind": "streamingLLM", "sinks": 0, "window": case.count("window")? })
            }
            "streaming_llm_repo" => json!({ "kind": "streamingLLM" }),
            "snapkv_repo" => snap_kv(case)?,
            "h2o" => json!({ "kind": "h2o", "window": case.count("window")?, "group": case.word("gqa_func")? }),
            "adakv_repo" => ada_kv(case, snap_kv(case)?)?,
            _ => ada_kv(case, with(snap_kv(case)?, json!({ "kind": "pyramidKV", "beta": case.count("beta")? })))?,
        };
        let policy = resolve(with(spec, json!({ "compat": compat, "budget": { "tokensPerHead": capacity } })))?;
        check(case, &layers, &policy, tag(budget)?)?;
    }
    Ok(())
}

/// Numbers of every slot, `[heads][slots]`.
type Rows = Outcome<Vec<Vec<f32>>>;

/// Scores, kept sets and capacities of one budget, whichever the case has.
fn check(case: &Case, layers: &[Layer], policy: &Policy, tag: &str) -> Outcome {
    let still = !case.has("k");
    let needs = policy.needs();
    let of_layers = |f: &dyn Fn(&LayerInput<Vec<u8>>) -> Rows| -> Outcome<Scores> {
        let rows = layers.iter().map(|layer| layer.with(&needs, still, f)).collect::<Outcome<Vec<_>>>()?;
        Ok(Scores::from_rows(rows.concat()))
    };
    let score =
        |input: &LayerInput<Vec<u8>>| -> Rows { Ok(policy.score(input)?.iter().map(<[f32]>::to_vec).collect()) };
    let of_budget = format!("scores_{tag}");
    for name in ["scores", "base_scores", &of_budget].into_iter().filter(|name| case.has(name)) {
        match (&policy.second_stage, name) {
            (Some(stage), name) if name == of_budget => {
                second_stage(case, name, &of_layers(&score)?, &of_layers(&|input| Ok(stage.weights(input)?))?, stage)?
            }
            _ => compare::scores(case, name, &of_layers(&score)?)?,
        }
    }
    if let Some(stage) = policy.second_stage.filter(|_| case.has("vw_norm")) {
        compare::scores(case, "vw_norm", &of_layers(&|input| Ok(stage.weights(input)?))?)?;
    }
    let selections = together(layers, &needs, still, |inputs| policy.compress(inputs))?;
    compare::kept(case, tag, &selections)?;
    let capacity = format!("capacity_{tag}");
    if case.has(&capacity) {
        let (_, expected) = case.integers(&capacity)?;
        let window = case.count("window")?;
        let lengths = (0..selections[0].heads()).map(|head| selections[0].head(head).len());
        compare::integers(&capacity, lengths.map(|length| length.saturating_sub(window)), expected)?;
    }
    let renumbered = format!("rerotated_k_{tag}");
    if case.has(&renumbered) {
        let kept: Vec<&[u32]> = (0..selections[0].heads()).map(|head| selections[0].head(head)).collect();
        compare::floats(&renumbered, &layers[0].renumbered(&kept), case.floats(&renumbered)?.1, 1e-4)?;
    }
    Ok(())
}

/// Runs `f` on all layers at once.
fn together<R>(
    layers: &[Layer],
    needs: &Needs,
    still: bool,
    f: impl FnOnce(&[LayerInput<Vec<u8>>]) -> headwise_core::Result<R>,
) -> Outcome<R> {
    fn gather<R>(
        layers: &[Layer],
        needs: &Needs,
        still: bool,
        inputs: Vec<LayerInput<Vec<u8>>>,
        f: impl FnOnce(&[LayerInput<Vec<u8>>]) -> headwise_core::Result<R>,
    ) -> headwise_core::Result<R> {
        let Some((first, rest)) = layers.split_first() else { return f(&inputs) };
        first.with(needs, still, |input| {
            // The inputs so far live longer than this one.
            let mut inputs: Vec<LayerInput<Vec<u8>>> = inputs.into_iter().collect();
            inputs.push(LayerInput { ..*input });
            gather(rest, needs, still, inputs, f)
        })
    }
    Ok(gather(layers, needs, still, Vec::new(), f)?)
}

/// Marked slots are the largest number that there is; the others are their score, weighed.
fn second_stage(case: &Case, name: &str, scores: &Scores, weights: &Scores, stage: &SecondStage) -> Outcome {
    let (_, expected) = case.floats(name)?;
    let weighed = |((&score, &weight), &expected): ((&f32, &f32), &f32)| match expected == f32::MAX {
        true => f32::MAX,
        false => (score + stage.epsilon as f32) * weight,
    };
    let got: Vec<f32> = scores.data().iter().zip(weights.data()).zip(expected).map(weighed).collect();
    compare::floats(name, &got, expected, 1e-5)
}

/// BlockPress cuts the text into blocks and compresses behind each: a session that is compressed while its prompt is read.
fn block_press(case: &Case) -> Outcome {
    let layers = Layer::all(case)?;
    let (seen, block) = (case.count("T")?, case.count("block_size")?.max(1));
    for budget in budgets(case)? {
        let ratio = number(budget, "compression_ratio")?;
        let count = kvpress::n_kept(seen as f64 * (1.0 - ratio));
        let policy = resolve(with(base(case)?, json!({ "budget": { "tokensPerHead": count } })))?;
        let mut slots: Vec<Vec<u32>> = vec![(0..count.min(seen) as u32).collect(); case.count("Hkv")?];
        for start in (count..seen).step_by(block) {
            let end = (start + block).min(seen);
            slots.iter_mut().for_each(|slots| slots.extend(start as u32..end as u32));
            let needs = policy.needs();
            let kept = layers[0]
                .with_slots(&needs, false, &slots, end, |input| policy.compress(std::slice::from_ref(input)))?;
            let keep = |(head, slots): (usize, &mut Vec<u32>)| {
                *slots = kept[0].head(head).iter().map(|&slot| slots[slot as usize]).collect();
            };
            slots.iter_mut().enumerate().for_each(keep);
        }
        let lengths = vec![seen; slots.len()];
        compare::kept(case, tag(budget)?, &[Selection::new(Ragged::from_rows(slots), &lengths)?])?;
    }
    Ok(())
}

fn sim_layer(case: &Case) -> Outcome {
    let layers = Layer::all(case)?;
    for budget in budgets(case)? {
        let filter = json!({
            "kind": "simLayer",
            "threshold": number(budget, "lazy_threshold")?,
            "initial": case.count("n_initial")?,
            "recent": case.count("n_recent")?,
            "last": case.count("n_last")?,
        });
        let spec = json!({ "kind": "custom", "scorer": { "kind": "recency" }, "filter": filter });
        let policy = resolve(with(spec, json!({ "compat": "kvpress", "budget": { "keep": 1 } })))?;
        let Some(Filter::SimLayer(filter)) = policy.filter else { return fail("no filter") };
        let laziness = layers[0].with(&policy.needs(), false, |input| filter.laziness(input))?;
        compare::floats("lazy_score", &[laziness as f32], case.floats("lazy_score")?.1, 1e-5)?;
        check(case, &layers, &policy, tag(budget)?)?;
    }
    Ok(())
}

fn think(case: &Case) -> Outcome {
    let layers = Layer::all(case)?;
    let window = case.count("window")?;
    let scores = layers[0].with(&Needs::default(), false, |input| channels::scores(input, window))?;
    let flat: Vec<f32> = scores.concat();
    let expected = case.floats("channel_scores")?.1;
    // Relative, for they are products of squares.
    let scaled =
        |numbers: &[f32]| -> Vec<f32> { numbers.iter().zip(expected).map(|(x, e)| x / e.abs().max(1.0)).collect() };
    compare::floats("channel_scores", &scaled(&flat), &scaled(expected), 1e-5)?;
    for budget in budgets(case)? {
        let ratio = number(budget, "key_channel_compression_ratio")?;
        let pruned = channels::pruned(&scores, (case.count("D")? as f64 * ratio) as usize)?;
        let name = format!("pruned_channels_{}", tag(budget)?);
        let got = pruned.iter().flatten().map(|&channel| channel as usize);
        compare::integers(&name, got, case.integers(&name)?.1)?;
    }
    Ok(())
}

/// snapKV with the options that the parameters name; what they do not name is kvpress's.
fn snap_kv(case: &Case) -> Outcome<Value> {
    let word = |name, default| Ok::<_, Miss>(case.optional(name, Case::word)?.unwrap_or(default));
    let pool = match word("pooling", "avg")? {
        "avg" | "avgpool" | "average" => "average",
        "max" | "maxpool" => "max",
        other => return Err(Miss::Unsupported(format!("pooling {other}"))),
    };
    Ok(json!({
        "kind": "snapKV",
        "window": case.count("window")?,
        "pool": { "kind": pool, "kernel": case.count("kernel")? },
        "rows": word("row_reduce", "mean")?,
        "group": word("gqa_func", "mean")?,
        "order": if case.kind.contains("_repo") { "groupFirst" } else { "poolFirst" },
    }))
}

/// adaKV with the AdaKV repository's options.
fn ada_kv(case: &Case, base: Value) -> Outcome<Value> {
    let normalize = case.optional("normalize", Case::flag)?.unwrap_or(false);
    Ok(json!({ "kind": "adaKV", "base": base, "floor": case.number("floor_alpha")?, "normalize": normalize }))
}

/// CUR with kvpress's options.
fn cur(case: &Case) -> Outcome<Value> {
    if case.flag("use_random_leverage")? {
        return Err(Miss::Unsupported("random leverage".into()));
    }
    let leverage = match case.word("leverage_type")? {
        "key" => "key",
        "value" => "value",
        "kv_avg" => "mean",
        "kv_product" => "product",
        other => return Err(Miss::Unsupported(format!("leverage {other}"))),
    };
    let block = case.count("local_window_size")?;
    let block = if case.flag("use_local_approximation")? { block } else { 0 };
    Ok(json!({ "kind": "cur", "first": case.count("num_sinks")?, "leverage": leverage, "block": block }))
}

/// The base scorer of a wrapper.
fn base(case: &Case) -> Outcome<Value> {
    Ok(match case.word("base")? {
        "snapkv" => snap_kv(case)?,
        "StreamingLLMPress(n_sink=4)" => json!({ "kind": "streamingLLM", "sinks": 4 }),
        "KnormPress" | "knorm" => json!({ "kind": "knorm" }),
        "KeyDiffPress" => json!({ "kind": "keyDiff" }),
        "TOVAPress" => json!({ "kind": "tova" }),
        "SnapKVPress" => snap_kv(case)?,
        other => return Err(Miss::Unsupported(format!("adaKV over {other}"))),
    })
}

fn n_kept(case: &Case) -> Outcome {
    use headwise_policy::Budget;
    let (params, expected) = (rows(case, "params", 2)?, rows(case, "n_kept", 3)?);
    if params.len() != expected.len() {
        return fail("params and n_kept differ in length");
    }
    for (row, expected) in params.iter().zip(expected) {
        let (seen, ratio) = (size(row[0])?, row[1] as f64 / 1000.0);
        let tokens = seen as f64 * (1.0 - ratio);
        let got = [Budget::Ratio(ratio).slots(seen, 1, 1), kvpress::n_cut(tokens), kvpress::n_round(tokens)];
        compare::integers(&format!("n_kept of T {seen}, ratio {ratio}"), got, expected)?;
    }
    Ok(())
}

fn pyramid_budgets(case: &Case) -> Outcome {
    let sources = [("kvpress", Compat::Kvpress), ("adakv", Compat::Adakv), ("kvcf", Compat::KvcacheFactory)];
    let mut any = false;
    for (name, compat) in sources {
        let (params, budget) = (format!("{name}_params"), format!("{name}_budget"));
        if !case.has(&params) && !case.has(&budget) {
            continue;
        }
        any = true;
        let (params, expected) = (rows(case, &params, 5)?, table(case, &budget)?);
        if params.len() != expected.len() {
            return fail(format!("{name}_params and {budget} differ in length"));
        }
        for (row, expected) in params.iter().zip(expected) {
            let (layers, seen) = (size(row[0])?, size(row[1])?);
            if !(1..=expected.len()).contains(&layers) {
                return fail(format!("{budget} has {} columns for {layers} layers", expected.len()));
            }
            let target = match compat {
                Compat::Kvpress => json!({ "ratio": row[4] as f64 / 1000.0 }),
                _ => json!({ "tokensPerHead": row[4] }),
            };
            let policy = resolve(json!({
                "kind": "pyramidKV", "window": row[2], "beta": row[3], "budget": target, "compat": compat,
            }))?;
            let padding = expected.iter().rev().take_while(|&&length| length == -1).count();
            let what = format!("{name} budget of [L, T, window, beta, budget] = {row:?}");
            compare::integers(&what, compat.lengths(&policy, seen, layers)?, &expected[..expected.len() - padding])?;
        }
    }
    if any { Ok(()) } else { fail("no parameters of any known source") }
}

/// The rows of an integer tensor `[N, W]`, neither of them 0: no rows would be no comparison.
fn table<'a>(case: &'a Case, name: &str) -> Outcome<Vec<&'a [i64]>> {
    match case.integers(name)? {
        (&[_, columns], data) if !data.is_empty() => Ok(data.chunks_exact(columns).collect()),
        (shape, _) => fail(format!("{name} has shape {shape:?}, expected rows and columns")),
    }
}

/// The rows of an integer tensor `[N, width]`.
fn rows<'a>(case: &'a Case, name: &str, width: usize) -> Outcome<Vec<&'a [i64]>> {
    let rows = table(case, name)?;
    match rows[0].len() == width {
        true => Ok(rows),
        false => fail(format!("{name} has {} columns, expected {width}", rows[0].len())),
    }
}

/// The budgets of a case; none would be no comparison.
fn budgets(case: &Case) -> Outcome<&[Map<String, Value>]> {
    if case.budgets.is_empty() { fail("no budgets") } else { Ok(&case.budgets) }
}

fn size(value: i64) -> Outcome<usize> {
    match usize::try_from(value) {
        Ok(size) if size < 1 << 32 => Ok(size),
        _ => fail(format!("{value} is not a size")),
    }
}

/// The `tag` of a budget.
pub fn tag(budget: &Map<String, Value>) -> Outcome<&str> {
    match budget.get("tag").and_then(Value::as_str) {
        Some(tag) => Ok(tag),
        None => fail("a budget without a tag"),
    }
}

fn with(mut spec: Value, more: Value) -> Value {
    if let (Value::Object(spec), Value::Object(more)) = (&mut spec, more) {
        spec.extend(more);
    }
    spec
}

fn resolve(spec: Value) -> Outcome<Policy> {
    Ok(PolicySpec::from_value(spec)?.resolve()?)
}
