//! `docs/policies.md`: every policy and every part, in tables that are made from the registries.

use headwise_core::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::gather::{Probe, ProbeText};
use crate::{
    Admit, Allocate, Allocator, Asks, Budget, Compat, Described, Filter, Needs, Policy, PolicySpec, Preset, Reads,
    Score, Scorer, SecondStage, Select, Selector,
};

const HEAD: &str = "\
<!-- Generated from the Rust types by `cargo run --release -p headwise-engine --bin export_types`. Do not edit. -->

# Policies

Every name of `policy.*`, `--policy` and the `kind` of a policy's JSON, and every part that `custom` puts together. Options and their defaults stand in
[`ts/generated/policy.ts`](../ts/generated/policy.ts). Which one to take: [How to choose a policy](choose.md).

- *Question*: **aware** judges by the last queries, for prompts that end with the question; **agnostic** gives the question no special say, for texts that are
  asked about later; — as what it is combined with.
- *Reads*: what it needs with its default options, of the cache, of the model and of what was observed.
- *Costs*: beside reading that once. *From the start*: it is gathered while tokens are read, so a session must have the policy, or name it in `observeFor`, before
  its first prefill. `npm run overhead` measures all of them.
- *Beside its source*: in what it differs. What holds for all is not repeated: budgets are met to the slot, ties go to the lower position, the query heads that
  share a KV head share its slots, the cache is cut once after the prefill, and tokens keep the positions that they were read at
  (`renumber` closes the gaps).
";

/// The text of `docs/policies.md`. The same on every machine.
pub fn policies_md() -> Result<String> {
    let mut sections = vec![HEAD.to_owned()];
    let mut rows = Vec::new();
    for part in Preset::described() {
        let policy = match part.about.asks {
            Asks::Either => None,
            _ => Some(PolicySpec::named(part.kind)?.with_budget(Budget::Keep(0.2)).resolve()?),
        };
        let made_of = policy.as_ref().map_or_else(|| "—".into(), parts_of);
        rows.push([name(&part), what(&part), made_of, source(&part), asks(&part)].into_iter().chain(needs(
            &part,
            policy.as_ref().map(Policy::needs),
            None,
        )));
    }
    let rows = rows.into_iter().map(Iterator::collect).collect();
    let columns = ["name", "what it is", "made of", "source", "question"];
    let intro = "Short forms: `{ \"kind\": \"snapKV\", … }` names a preset or a scorer. `adaX` is `adaKV` over X.";
    sections.push(section("Presets", intro, &[&columns[..], &NEEDS].concat(), rows));
    let rows: Result<Vec<_>> = Scorer::described().iter().map(scorer).collect();
    let columns = ["name", "what it is", "source", "question", "protects"];
    let intro = "How much a slot is worth. Each is a policy by itself, uniform over layers and heads. *Protects*: the last tokens, which it cannot judge.";
    sections.push(section("Scorers", intro, &[&columns[..], &NEEDS].concat(), rows?));
    let rows: Result<Vec<_>> = Filter::described().iter().map(filter).collect();
    let columns = ["name", "what it is", "source", "question"];
    let intro =
        "Which slots may compete at all: budgets that come out of the text. The policy's own budget stays a cap.";
    sections.push(section("Filters", intro, &[&columns[..], &NEEDS].concat(), rows?));
    let rows: Result<Vec<_>> = Allocator::described().iter().map(allocator).collect();
    let intro = "How the budget is split over the layers.";
    sections.push(section("Allocators", intro, &[&columns[..], &NEEDS].concat(), rows?));
    let rows: Result<Vec<_>> = Selector::described().iter().map(selector).collect();
    let columns = ["name", "what it is", "source", "layers compete", "second stage", BESIDE];
    let intro = "How many slots each head keeps, and which. *Layers compete*: no allocator has a say. *Second stage*: whether one may follow.";
    sections.push(section("Selectors", intro, &columns, rows?));
    let stage = Described::of::<SecondStage>("secondStage");
    let row = [name(&stage), what(&stage), source(&stage)].into_iter().chain(needs(&stage, None, None)).collect();
    let columns = ["name", "what it is", "source"];
    sections.push(section(
        "Second stage",
        "A second look at what a head keeps.",
        &[&columns[..], &NEEDS].concat(),
        vec![row],
    ));
    let rows = Compat::ALL.map(|compat| {
        let (name, source, what) = compat.about();
        vec![
            format!("`{name}`"),
            format!("[{source}](https://{})", source.split(' ').next().unwrap_or(source)),
            what.into(),
        ]
    });
    let intro =
        "`compat` reproduces a published implementation with its rounding, and refuses what that does not have.";
    sections.push(section("Compatibility", intro, &["name", "source", "whose arithmetic"], rows.into()));
    Ok(sections.join("\n"))
}

const BESIDE: &str = "beside its source";
const NEEDS: [&str; 3] = ["reads", "costs", BESIDE];

fn section(title: &str, intro: &str, columns: &[&str], rows: Vec<Vec<String>>) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let columns: Vec<String> = columns.iter().map(|column| column.to_string()).collect();
    let rule = format!("|{}\n", " --- |".repeat(columns.len()));
    let rows: String = rows.iter().map(|row| line(row)).collect();
    format!("## {title}\n\n{intro}\n\n{}{rule}{rows}", line(&columns))
}

/// A part with its default options, or `None` where it follows what it is combined with.
fn default_of<T: DeserializeOwned>(part: &Described) -> Result<Option<T>> {
    if part.about.asks == Asks::Either {
        return Ok(None);
    }
    let value = serde_json::from_value(json!({ "kind": part.kind }));
    value.map(Some).map_err(|error| Error::InvalidPolicy { reason: format!("{}: {error}", part.kind) })
}

fn scorer(part: &Described) -> Result<Vec<String>> {
    let scorer = default_of::<Scorer>(part)?;
    let protects = match scorer.as_ref().map(Score::window) {
        None => "—".into(),
        Some(0) => "nothing".into(),
        Some(window) => tokens(window),
    };
    let needs = needs(part, scorer.as_ref().map(Score::needs), None);
    Ok([name(part), what(part), source(part), asks(part), protects].into_iter().chain(needs).collect())
}

fn filter(part: &Described) -> Result<Vec<String>> {
    // What judges scores alone has options without a default.
    let filter = default_of::<Filter>(part)?;
    let scores = filter.as_ref().is_none_or(Admit::uses_scores).then_some("scores");
    let needs = needs(part, Some(filter.as_ref().map_or_else(Needs::default, Admit::needs)), scores);
    Ok([name(part), what(part), source(part), asks(part)].into_iter().chain(needs).collect())
}

fn allocator(part: &Described) -> Result<Vec<String>> {
    let options = json!({ "kind": part.kind, "weights": [1] });
    let allocator: Allocator = serde_json::from_value(options)
        .map_err(|error| Error::InvalidPolicy { reason: format!("{}: {error}", part.kind) })?;
    let scores = allocator.weighs().then_some("scores of all layers");
    let needs = needs(part, Some(allocator.needs()), scores);
    Ok([name(part), what(part), source(part), asks(part)].into_iter().chain(needs).collect())
}

fn selector(part: &Described) -> Result<Vec<String>> {
    let selector: Selector = serde_json::from_value(json!({ "kind": part.kind, "weights": [[1]] }))
        .map_err(|error| Error::InvalidPolicy { reason: format!("{}: {error}", part.kind) })?;
    let yes = |it: bool| if it { "yes" } else { "no" }.to_owned();
    let facts = [yes(selector.spans_layers()), yes(selector.keeps_the_best()), beside(part)];
    Ok([name(part), what(part), source(part)].into_iter().chain(facts).collect())
}

fn name(part: &Described) -> String {
    format!("`{}`", part.kind)
}

fn what(part: &Described) -> String {
    part.what.clone()
}

/// arXiv ids as links.
fn source(part: &Described) -> String {
    let link = |source: &str| match source.strip_prefix("arXiv ") {
        Some(id) => format!("[{id}](https://arxiv.org/abs/{id})"),
        None => source.to_owned(),
    };
    part.about.source.split(", ").map(link).collect::<Vec<_>>().join(", ")
}

fn asks(part: &Described) -> String {
    let text = match part.about.asks {
        Asks::Aware => "aware",
        Asks::Agnostic => "agnostic",
        Asks::Either => "—",
    };
    text.into()
}

fn beside(part: &Described) -> String {
    match (part.about.deviates, part.about.source) {
        ("", "ours" | "common") => "—".into(),
        ("", _) => "as published".into(),
        (deviates, _) => deviates.into(),
    }
}

fn tokens(count: usize) -> String {
    if count == 1 { "the last token".into() } else { format!("the last {count} tokens") }
}

/// The columns of [`NEEDS`]. `None`: as what it is combined with.
fn needs(part: &Described, needs: Option<Needs>, scores: Option<&str>) -> [String; 3] {
    let given = needs.is_none().then_some("as what it is combined with");
    let needs = needs.unwrap_or_default();
    let from_the_start = "from the start";
    let mut costs = Vec::new();
    let mut reads: Vec<String> = given.into_iter().chain(scores).map(str::to_owned).collect();
    reads.extend(part.about.reads.iter().map(|reads| reads.name().to_owned()));
    if needs.window_queries > 0 {
        let queries = match needs.window_queries {
            1 => "the last query".to_owned(),
            count => format!("the last {count} queries"),
        };
        costs.push(format!("attention of {queries} once more"));
        reads.push(queries);
    }
    let gathered = [
        (needs.running_sums, "running sums", "sums in every pass"),
        (needs.query_moments, "query moments", "moments in every pass"),
        (!needs.chunk_attention.is_empty(), "chunk attention", "attention inside chunks"),
        (!needs.echo.is_empty(), "echo", "attention of each chunk to itself once more"),
    ];
    for (_, what, cost) in gathered.into_iter().filter(|(needed, ..)| *needed) {
        reads.push(what.into());
        costs.push(format!("{cost}, {from_the_start}"));
    }
    if needs.token_classes {
        reads.push("token classes".into());
    }
    match needs.probe {
        Some(Probe { text: ProbeText::Repeat { .. }, .. }) => {
            reads.push("a repetition of the text".into());
            costs.push("one more reading of the text".into());
        }
        Some(Probe { text: ProbeText::Instruction(_), .. }) => {
            reads.push("an instruction".into());
            costs.push("reading the instruction".into());
        }
        None => {}
    }
    if part.about.reads.contains(&Reads::Output) {
        costs.push("all values through W_O".into());
    }
    let join = |list: Vec<String>| if list.is_empty() { "—".to_owned() } else { list.join(", ") };
    [join(reads), join(costs), beside(part)]
}

/// The parts that a policy is put together from, those that do nothing left out.
fn parts_of(policy: &Policy) -> String {
    let mut parts = vec![format!("`{}`", policy.scorer.kind())];
    parts.extend(policy.filter.as_ref().map(|filter| format!("`{}`", filter.kind())));
    if policy.allocator != Allocator::default() {
        parts.push(format!("`{}`", policy.allocator.kind()));
    }
    parts.push(format!("`{}`", policy.selector.kind()));
    parts.extend(policy.second_stage.map(|_| "`secondStage`".to_owned()));
    if policy.protect.sinks > 0 {
        parts.push(format!("{} sinks", policy.protect.sinks));
    }
    parts.join(" · ")
}
