//! Cases of one layer: parameters become the JSON of a policy, the policy does the rest.

use headwise_policy::{Compat, Policy, PolicySpec};
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
];

/// Runs a case of one layer.
pub fn run(case: &Case) -> Outcome {
    match case.kind.as_str() {
        "n_kept" => n_kept(case),
        "pyramid_budgets" => pyramid_budgets(case),
        kind if kind == "h2o" || kind.contains("_repo") => repository(case),
        _ => kvpress(case),
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
        "streaming_llm" => json!({ "kind": "streamingLLM", "sinks": case.count("n_sink")? }),
        "adakv_snapkv" => json!({ "kind": "adaKV", "base": snap_kv(case)? }),
        "adakv_base" => json!({ "kind": "adaKV", "base": base(case)? }),
        "full" => return resolve(json!({ "kind": "full" })),
        other => return Err(Miss::Unsupported(format!("policy {other}"))),
    };
    if kind.starts_with("adakv") {
        spec = with(spec, json!({ "floor": case.number("alpha_safeguard")? }));
    }
    resolve(with(spec, json!({ "compat": "kvpress", "budget": { "ratio": ratio } })))
}

fn kvpress(case: &Case) -> Outcome {
    let layer = Layer::of(case)?;
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
        check(case, &layer, &policy, tag(budget)?)?;
        if let Some(rows) = &of_layers {
            let expected = rows[index];
            let got = Compat::Kvpress.lengths(&policy, case.count("T")?, expected.len())?;
            compare::integers("layer_budget", got, expected)?;
        }
    }
    Ok(())
}

fn repository(case: &Case) -> Outcome {
    let layer = Layer::of(case)?;
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
        check(case, &layer, &policy, tag(budget)?)?;
    }
    Ok(())
}

/// Scores, kept sets and capacities of one budget, whichever the case has.
fn check(case: &Case, layer: &Layer, policy: &Policy, tag: &str) -> Outcome {
    let of_budget = format!("scores_{tag}");
    if let Some(name) = ["scores", &of_budget].into_iter().find(|name| case.has(name)) {
        compare::scores(case, name, &layer.with(|input| policy.score(input))?)?;
    }
    let selections = layer.with(|input| policy.compress(std::slice::from_ref(input)))?;
    compare::kept(case, tag, &selections)?;
    let capacity = format!("capacity_{tag}");
    if case.has(&capacity) {
        let (_, expected) = case.integers(&capacity)?;
        let window = case.count("window")?;
        let lengths = (0..selections[0].heads()).map(|head| selections[0].head(head).len());
        compare::integers(&capacity, lengths.map(|length| length.saturating_sub(window)), expected)?;
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

/// The base scorer of `adakv_base`.
fn base(case: &Case) -> Outcome<Value> {
    Ok(match case.word("base")? {
        "KnormPress" => json!({ "kind": "knorm" }),
        "KeyDiffPress" => json!({ "kind": "keyDiff" }),
        "TOVAPress" => json!({ "kind": "tova" }),
        "SnapKVPress" => snap_kv(case)?,
        other => return Err(Miss::Unsupported(format!("adaKV over {other}"))),
    })
}

fn n_kept(case: &Case) -> Outcome {
    use headwise_policy::{Budget, compat::kvpress};
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
