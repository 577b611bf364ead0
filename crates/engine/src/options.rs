//! What a caller can ask for, as plain data. Defaults live here and nowhere else.

use headwise_core::{Codec, Error, Result};
use headwise_policy::{FullPolicy, PolicySpec, Preset};
use serde::Deserialize;
use ts_rs::TS;

/// How a model is run.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[ts(optional_fields)]
pub struct EngineOptions {
    /// Worker threads of the kernels. Default: physical cores, or as many of them as the process may use.
    pub threads: Option<usize>,
    /// Storage format of the KV cache. Default `f16`.
    #[ts(as = "Option<_>")]
    pub kv_codec: Codec,
    /// Most bytes that all KV caches of this model may hold together. Default: no limit.
    pub kv_limit_bytes: Option<usize>,
    /// Most prompt tokens that go through the model at a time. Default 512; fewer while other sessions are busy.
    #[ts(as = "Option<_>")]
    pub prefill_chunk: usize,
}

const MAX_THREADS: usize = 1024;

impl Default for EngineOptions {
    fn default() -> Self {
        Self { threads: None, kv_codec: Codec::default(), kv_limit_bytes: None, prefill_chunk: 512 }
    }
}

impl EngineOptions {
    pub(crate) fn validate(&self) -> Result<()> {
        if self.prefill_chunk == 0 {
            return Err(Error::invalid("prefillChunk", 0, "at least one token"));
        }
        if let Some(threads) = self.threads.filter(|threads| !(1..=MAX_THREADS).contains(threads)) {
            return Err(Error::invalid("threads", threads, &format!("1 to {MAX_THREADS} threads")));
        }
        Ok(())
    }
}

/// How a session is set up.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[ts(optional_fields)]
pub struct SessionOptions {
    /// What to evict, and when. Default: `{ kind: 'full' }`, nothing.
    #[ts(as = "Option<_>")]
    pub policy: PolicySpec,
    /// How many of the last queries each layer remembers, so that a later `compress` can use a policy with an observation
    /// window of up to this many tokens. The session's own policy raises it to what it needs. Default 64.
    #[ts(as = "Option<_>")]
    pub observe: usize,
    /// Policies that a later `compress`, of this session or of a fork, will be asked for: what they need is gathered from the start. Only for
    /// those that need more than the last queries (sums of all attention, which cannot be had later). Default: none.
    #[ts(as = "Option<_>")]
    pub observe_for: Vec<PolicySpec>,
}

/// Most queries that a session can be told to remember.
const MAX_OBSERVE: usize = 4096;

impl SessionOptions {
    /// Parses JSON; a wrong policy is an [`Error::InvalidPolicy`], as it is everywhere.
    pub fn from_json(json: &str) -> Result<Self> {
        let invalid = |error: serde_json::Error| Error::invalid("options", json, &error.to_string());
        let mut value: serde_json::Value = serde_json::from_str(json).map_err(invalid)?;
        let mut take = |name| value.as_object_mut().and_then(|options| options.remove(name));
        let (policy, observe_for) = (take("policy"), take("observeFor"));
        let mut options: Self = serde_json::from_value(value).map_err(invalid)?;
        if let Some(policy) = policy {
            options.policy = PolicySpec::from_value(policy)?;
        }
        if let Some(policies) = observe_for {
            let policies: Vec<serde_json::Value> = serde_json::from_value(policies).map_err(invalid)?;
            options.observe_for = policies.into_iter().map(PolicySpec::from_value).collect::<Result<_>>()?;
        }
        Ok(options)
    }

    pub(crate) fn validate(&self) -> Result<()> {
        match self.observe <= MAX_OBSERVE {
            true => Ok(()),
            false => Err(Error::invalid("observe", self.observe, &format!("at most {MAX_OBSERVE} queries"))),
        }
    }
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { policy: PolicySpec::Preset(Preset::from(FullPolicy {})), observe: 64, observe_for: Vec::new() }
    }
}

/// How the next token is drawn. Order: repetition penalty, temperature, top-k, top-p, min-p, draw.
#[derive(Debug, Clone, PartialEq, Deserialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[ts(optional_fields)]
pub struct SamplerOptions {
    /// 0 = greedy (the default): the most likely token, ties to the lower id.
    #[ts(as = "Option<_>")]
    pub temperature: f32,
    /// Only the k most likely tokens; 0 (the default) = all.
    #[ts(as = "Option<_>")]
    pub top_k: usize,
    /// Only the smallest set of most likely tokens whose probabilities reach p. Default 1: all.
    #[ts(as = "Option<_>")]
    pub top_p: f32,
    /// Only tokens at least p times as likely as the most likely one. Default 0: all.
    #[ts(as = "Option<_>")]
    pub min_p: f32,
    /// Divides positive (multiplies negative) logits of tokens that occur in the session. Default 1: off.
    #[ts(as = "Option<_>")]
    pub repetition_penalty: f32,
    /// Seed of the draw. Same seed, policy and prompt give the same tokens. Default 0.
    #[ts(as = "Option<_>")]
    pub seed: u64,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, seed: 0 }
    }
}

impl SamplerOptions {
    pub(crate) fn validate(&self) -> Result<()> {
        let check = |name, value: f32, good: bool, expected| match good {
            true => Ok(()),
            false => Err(Error::invalid(name, value, expected)),
        };
        let t = self.temperature;
        check("temperature", t, t.is_finite() && t >= 0.0, "a finite number of at least 0")?;
        check("topP", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0 and at most 1")?;
        check("minP", self.min_p, (0.0..=1.0).contains(&self.min_p), "between 0 and 1")?;
        let r = self.repetition_penalty;
        check("repetitionPenalty", r, r.is_finite() && r > 0.0, "a finite number above 0")
    }
}

/// What `generate` is to do, besides its prompt.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[ts(optional_fields)]
pub struct GenerateOptions {
    /// Most tokens to generate. Default 256.
    #[ts(as = "Option<_>")]
    pub max_tokens: usize,
    /// How tokens are drawn. Default: greedy.
    #[ts(as = "Option<_>")]
    pub sampler: SamplerOptions,
    /// Generation ends before the first of these texts, which is not part of the output.
    #[ts(as = "Option<_>")]
    pub stop: Vec<String>,
    /// Generation ends at any of these token ids.
    #[ts(as = "Option<_>")]
    pub stop_tokens: Vec<u32>,
    /// Do not end at the model's own end-of-text tokens. Default false.
    #[ts(as = "Option<_>")]
    pub ignore_eos: bool,
    /// Read special tokens (`<|im_start|>` …) in the prompt as such. Default false: they are plain text.
    #[ts(as = "Option<_>")]
    pub parse_special: bool,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_tokens: 256,
            sampler: SamplerOptions::default(),
            stop: Vec::new(),
            stop_tokens: Vec::new(),
            ignore_eos: false,
            parse_special: false,
        }
    }
}

impl GenerateOptions {
    pub(crate) fn validate(&self) -> Result<()> {
        if self.max_tokens == 0 {
            return Err(Error::invalid("maxTokens", 0, "at least one token"));
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::invalid("stop", "\"\"", "texts of at least one character"));
        }
        self.sampler.validate()
    }
}

/// How `logLikelihood` reads its text.
#[derive(Debug, Clone, Default, Deserialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[ts(optional_fields)]
pub struct LikelihoodOptions {
    /// Read special tokens (`<|im_start|>` …) as such. Default false: they are plain text.
    #[ts(as = "Option<_>")]
    pub parse_special: bool,
}

/// What `prefill` is to do with the cache afterwards.
#[derive(Debug, Clone, Default, Deserialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[ts(optional_fields)]
pub struct PrefillOptions {
    /// Compress with the session's policy once the tokens are in. Default: as the policy's schedule says.
    pub compress: Option<bool>,
    /// Read special tokens (`<|im_start|>` …) as such. Default false: they are plain text.
    #[ts(as = "Option<_>")]
    pub parse_special: bool,
}
