//! Chat templates: Jinja, in the dialect of transformers' `apply_chat_template`.
//!
//! <https://huggingface.co/docs/transformers/chat_templating>. Templates come out of model files, so they are not trusted: they
//! reach no files and no other templates, and run with limited fuel, limited recursion and limited output. What is not limited is
//! the memory of strings on the way: a template that doubles one again and again can exhaust it.

mod clock;
mod json;

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use headwise_core::{Error, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, context};
use serde::{Deserialize, Serialize};

use crate::gguf::Gguf;

/// Instructions that a rendering may take: templates of today's models need about a hundred a message.
const FUEL: u64 = 100_000;
const FUEL_PER_MESSAGE: u64 = 5_000;
/// Bytes that a rendering may write: this much, and so many times what the messages hold.
const OUTPUT: usize = 1 << 20;
const OUTPUT_PER_BYTE: usize = 16;
/// A rendering runs on a stack of its own, deep enough to drop any nest of lists that its fuel can build.
const STACK: usize = 256 << 20;
const NAME: &str = "chat";

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// A compiled template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] when it is not valid.
    pub fn new(source: impl Into<String>) -> Result<Self> {
        let source = source.into();
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(failed)?;
        environment.set_syntax(syntax);
        environment.set_debug(false);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", json::to_json);
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", |format: String| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
            clock::strftime(now, &format)
        });
        environment.add_template_owned(NAME, source.clone()).map_err(failed)?;
        Ok(Self { environment, source })
    }

    /// The template inside a GGUF file (`tokenizer.chat_template`), if there is one.
    ///
    /// # Errors
    /// [`Error::MalformedFile`] when it is not a string, [`Error::ChatTemplate`] when it is not valid.
    pub fn from_gguf(gguf: &Gguf) -> Result<Option<Self>> {
        gguf.string("tokenizer.chat_template")?.map(Self::new).transpose()
    }

    /// The template in a model's folder, if there is one: `chat_template.jinja`, else `chat_template` in
    /// `tokenizer_config.json` (of several named ones that called `default`).
    ///
    /// # Errors
    /// [`Error::MalformedFile`] when the configuration is not valid, [`Error::ChatTemplate`] when the template is not.
    pub fn from_folder(folder: &Path) -> Result<Option<Self>> {
        #[derive(Deserialize)]
        struct Config {
            chat_template: Option<Templates>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Templates {
            One(String),
            Named(Vec<Named>),
        }
        #[derive(Deserialize)]
        struct Named {
            name: String,
            template: String,
        }
        if let Ok(source) = std::fs::read_to_string(folder.join("chat_template.jinja")) {
            return Self::new(source).map(Some);
        }
        let path = folder.join("tokenizer_config.json");
        let Ok(bytes) = std::fs::read(&path) else { return Ok(None) };
        let config: Config = serde_json::from_slice(&bytes)
            .map_err(|error| Error::MalformedFile { path: path.display().to_string(), reason: error.to_string() })?;
        let source = config.chat_template.and_then(|templates| match templates {
            Templates::One(source) => Some(source),
            Templates::Named(all) => all.into_iter().find(|named| named.name == "default").map(|named| named.template),
        });
        source.map(Self::new).transpose()
    }

    /// The template's source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Writes a conversation in the model's own form. With `add_generation_prompt` it ends where the assistant's answer begins.
    ///
    /// The result holds the texts of control tokens, so encode it with `parse_special`; it holds BOS where the model wants one.
    /// Dates (`strftime_now`) are in UTC.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] for what the template raises, and when it exceeds its limits.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        bos_token: Option<&str>,
        eos_token: Option<&str>,
    ) -> Result<String> {
        let bytes: usize = messages.iter().map(|message| message.role.len() + message.content.len()).sum();
        let mut output =
            Output { text: Vec::new(), limit: OUTPUT.saturating_add(bytes.saturating_mul(OUTPUT_PER_BYTE)) };
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL + FUEL_PER_MESSAGE * messages.len() as u64));
        let render = || {
            let list: Vec<Value> = messages
                .iter()
                .map(|message| context! { role => message.role.as_str(), content => message.content.as_str() })
                .collect();
            let context = context! {
                messages => list,
                add_generation_prompt => add_generation_prompt,
                bos_token => bos_token.unwrap_or(""),
                eos_token => eos_token.unwrap_or(""),
                tools => (),
                documents => (),
            };
            environment.get_template(NAME)?.render_captured_to(context, &mut output).map(|_| ())
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("chat-template".into()).stack_size(STACK);
            let rendering = thread.spawn_scoped(scope, render).map_err(failed)?;
            match rendering.join() {
                Ok(done) => done.map_err(failed),
                Err(_) => Err(failed("the template engine panicked")),
            }
        })?;
        String::from_utf8(output.text).map_err(failed)
    }
}

/// A buffer with an end.
struct Output {
    text: Vec<u8>,
    limit: usize,
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.limit - self.text.len() {
            return Err(io::Error::other(format!("the template writes more than {} bytes", self.limit)));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An error with the errors behind it.
fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let error = error.into();
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        reason = format!("{reason}: {cause}");
        source = cause.source();
    }
    Error::ChatTemplate { reason }
}
