//! The JSON form: every name parses, means what it says, and what is wrong is named.

use headwise_core::Error;
use headwise_policy::{
    AcrossHeads, AcrossLayers, Allocator, Budget, GroupReduce, Norm, PolicySpec, Pooling, Preset, RowReduce, Scorer,
    Selector, Weight, WeightBy,
};
use serde_json::json;

fn reason(json: &str) -> String {
    match PolicySpec::from_json(json).and_then(|spec| spec.resolve()) {
        Err(Error::InvalidPolicy { reason }) => reason,
        other => panic!("{json}: {other:?}"),
    }
}

#[test]
fn every_name_has_defaults_and_survives_a_round_trip() {
    for name in PolicySpec::names() {
        let spec = PolicySpec::named(&name).unwrap().with_budget(Budget::Keep(0.2));
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(PolicySpec::from_json(&text).unwrap(), spec, "{name}");
        let policy = spec.resolve().unwrap();
        assert_eq!(policy.budget, if name == "full" { Budget::Keep(1.0) } else { Budget::Keep(0.2) });
        assert_eq!(policy.keeps_all(), name == "full");
    }
    let error = PolicySpec::named("snapkv").unwrap_err().to_string();
    assert!(error.contains("snapkv") && error.contains("adaSnapKV"), "{error}");
}

#[test]
fn presets_and_scorers_have_different_names() {
    assert!(Preset::KINDS.iter().all(|kind| !Scorer::KINDS.contains(kind)));
}

#[test]
fn ada_kv_composes_over_any_base_and_takes_the_budget_from_either() {
    let outer =
        json!({ "kind": "adaKV", "base": { "kind": "snapKV", "window": 32 }, "floor": 0.3, "budget": { "keep": 0.2 } });
    let inner =
        json!({ "kind": "adaKV", "base": { "kind": "snapKV", "window": 32, "budget": { "keep": 0.2 } }, "floor": 0.3 });
    let [outer, inner] = [outer, inner].map(|spec| PolicySpec::from_value(spec).unwrap().resolve().unwrap());
    assert_eq!(outer, inner);
    assert_eq!(outer.selector, Selector::AcrossHeads(AcrossHeads { floor: 0.3, normalize: false }));
    let pyramid = PolicySpec::named("adaPyramidKV").unwrap().with_budget(Budget::TokensPerHead(99)).resolve().unwrap();
    assert!(matches!(pyramid.allocator, Allocator::Pyramid(_)) && matches!(pyramid.selector, Selector::AcrossHeads(_)));

    let both = r#"{"kind":"adaKV","base":{"kind":"knorm","budget":{"keep":0.2}},"budget":{"keep":0.2}}"#;
    assert!(reason(both).contains("budget stands on both"), "{}", reason(both));
    let twice = r#"{"kind":"adaKV","base":{"kind":"adaKV"},"budget":{"keep":0.2}}"#;
    assert!(reason(twice).contains("compete already"));
}

#[test]
fn lookahead_is_weighed_attention_over_the_whole_cache() {
    let policy = PolicySpec::named("lookahead").unwrap().with_budget(Budget::Keep(0.05)).resolve().unwrap();
    let Scorer::SnapKV(snap) = &policy.scorer else { panic!("{:?}", policy.scorer) };
    assert_eq!((snap.window, snap.fade, snap.recent), (64, 0.97, Some(8)));
    assert_eq!((snap.rows, snap.group), (RowReduce::Max, GroupReduce::Max));
    assert_eq!(
        (snap.pool, snap.weight),
        (Pooling::LookAhead { span: 24, decay: 0.9 }, Some(Weight { by: WeightBy::Value, norm: Norm::L2 }))
    );
    assert_eq!(policy.selector, Selector::AcrossLayers(AcrossLayers { floor: 0.0, normalize: false }));
    assert_eq!(policy.protect.sinks, 4);
}

#[test]
fn the_default_depends_on_when_the_question_comes() {
    let scorer = |question: &str| {
        let json = format!(r#"{{"kind":"default","question":"{question}","budget":{{"keep":0.2}}}}"#);
        PolicySpec::from_json(&json).unwrap().resolve().unwrap().scorer
    };
    assert!(matches!(scorer("known"), Scorer::SnapKV(_)));
    let base = |scorer: Scorer| match scorer {
        Scorer::Weighted(weighted) => *weighted.base,
        other => panic!("{other:?}"),
    };
    assert!(matches!(base(scorer("later")), Scorer::EchoScores(_)));
    let Scorer::Either(either) = base(scorer("none")) else { panic!("{:?}", scorer("none")) };
    assert_eq!(either.of.iter().map(Scorer::kind).collect::<Vec<_>>(), ["echoScores", "snapKV"]);
}

#[test]
fn parts_that_contradict_each_other_are_refused() {
    for (json, expected) in [
        (
            r#"{"kind":"custom","scorer":{"kind":"knorm"},"selector":{"kind":"acrossLayers"},"allocator":{"kind":"pyramid"},"budget":{"keep":0.5}}"#,
            "pyramid has no say",
        ),
        (
            r#"{"kind":"custom","scorer":{"kind":"knorm"},"selector":{"kind":"chunks"},"secondStage":{},"budget":{"keep":0.5}}"#,
            "selector chunks",
        ),
        (r#"{"kind":"local","base":{"kind":"snapKV"},"budget":{"keep":0.5}}"#, "local over snapKV"),
        (r#"{"kind":"weighted","by":"change","budget":{"keep":0.5}}"#, "weighted by change"),
        (
            r#"{"kind":"either","of":[{"kind":"reconstruction"},{"kind":"knorm"},{"kind":"instruction"}],"budget":{"keep":0.5}}"#,
            "read another text",
        ),
    ] {
        assert!(reason(json).contains(expected), "{json}: {}", reason(json));
    }
}

#[test]
fn what_is_wrong_with_the_json_is_named() {
    for (json, expected) in [
        ("[1]", "\"kind\""),
        ("{", "EOF"),
        (r#"{"kind":"snapkv"}"#, "snapKV"),
        (r#"{"kind":"snapKV","windw":3,"budget":{"keep":1}}"#, "\"windw\""),
        (r#"{"kind":"full","budget":{"keep":1}}"#, "\"budget\""),
        (r#"{"kind":"snapKV","window":-3}"#, "snapKV"),
        (r#"{"kind":"snapKV","window":2.5}"#, "2.5"),
        (r#"{"kind":"snapKV","pool":{"kind":"max","kernal":7},"budget":{"keep":1}}"#, "\"kernal\""),
        (r#"{"kind":"snapKV","budget":{"keep":0.5,"ratio":0.5}}"#, "snapKV"),
        (r#"{"kind":"snapKV","budget":{"tokens":5}}"#, "tokensPerHead"),
        (r#"{"kind":"snapKV"}"#, "no budget"),
        (r#"{"kind":"adaKV","base":{"kind":"snapKV","widow":3}}"#, "\"widow\""),
        (r#"{"kind":"custom","scorer":{"kind":"tova","x":1}}"#, "\"x\""),
    ] {
        assert!(reason(json).contains(expected), "{json}: {}", reason(json));
    }
}

#[test]
fn options_out_of_their_range_are_refused_with_their_value() {
    for (json, name) in [
        (r#"{"kind":"either","of":[],"budget":{"keep":0.5}}"#, "either.of"),
        (r#"{"kind":"either","of":[{"kind":"snapKV","window":0}],"budget":{"keep":0.5}}"#, "snapKV.window"),
        (r#"{"kind":"snapKV","budget":{"keep":0}}"#, "budget.keep"),
        (r#"{"kind":"snapKV","budget":{"keep":1.5}}"#, "budget.keep"),
        (r#"{"kind":"snapKV","budget":{"ratio":1}}"#, "budget.ratio"),
        (r#"{"kind":"snapKV","budget":{"bytes":0}}"#, "budget.bytes"),
        (r#"{"kind":"snapKV","budget":{"tokensPerHead":0}}"#, "budget.tokensPerHead"),
        (r#"{"kind":"snapKV","window":0,"budget":{"keep":1}}"#, "snapKV.window"),
        (r#"{"kind":"snapKV","window":5000,"budget":{"keep":1}}"#, "snapKV.window"),
        (r#"{"kind":"snapKV","pool":{"kind":"average","kernel":4},"budget":{"keep":1}}"#, "snapKV.pool.kernel"),
        (r#"{"kind":"lookahead","decay":0,"budget":{"keep":1}}"#, "snapKV.pool.decay"),
        (r#"{"kind":"lookahead","fade":1.5,"budget":{"keep":1}}"#, "snapKV.fade"),
        (r#"{"kind":"adaKV","floor":1.1,"budget":{"keep":1}}"#, "acrossHeads.floor"),
        (r#"{"kind":"kvCrush","share":1.5,"budget":{"keep":1}}"#, "crush.share"),
        (
            r#"{"kind":"custom","scorer":{"kind":"knorm"},"selector":{"kind":"headWeights","weights":[[1,-1]]},"budget":{"keep":1}}"#,
            "headWeights.weights",
        ),
        (
            r#"{"kind":"custom","scorer":{"kind":"knorm"},"selector":{"kind":"headWeights","weights":[]},"budget":{"keep":1}}"#,
            "headWeights.weights",
        ),
        (r#"{"kind":"pyramidKV","beta":0,"budget":{"keep":1}}"#, "pyramid.beta"),
        (r#"{"kind":"knorm","protect":{"spans":[{"start":5,"end":4}]},"budget":{"keep":1}}"#, "protect.spans"),
    ] {
        match PolicySpec::from_json(json).and_then(|spec| spec.resolve()) {
            Err(Error::InvalidArgument { name: got, .. }) => assert_eq!(got, name),
            other => panic!("{json}: {other:?}"),
        }
    }
}

#[test]
fn compat_refuses_what_the_source_does_not_have() {
    for json in [
        r#"{"kind":"knorm","compat":"adakv","budget":{"keep":0.5}}"#,
        r#"{"kind":"adaKV","compat":"kvcacheFactory","budget":{"keep":0.5}}"#,
        r#"{"kind":"adaKV","base":{"kind":"pyramidKV"},"compat":"kvpress","budget":{"keep":0.5}}"#,
        r#"{"kind":"snapKV","compat":"kvpress","budget":{"bytes":5000}}"#,
        r#"{"kind":"snapKV","compat":"kvpress","protect":{"sinks":4},"budget":{"keep":0.5}}"#,
    ] {
        let error = PolicySpec::from_json(json).unwrap().resolve().unwrap_err();
        assert!(matches!(error, Error::UnsupportedFeature { .. }), "{json}: {error}");
    }
}
