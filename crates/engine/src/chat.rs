//! Chats in the model's own template.

use headwise_core::{Error, Result};
use headwise_model::Model;
use headwise_model::chat_template::Message;

/// See [`crate::Engine::render_chat`].
pub(crate) fn render(model: &Model, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
    let template = model.chat_template();
    let template = template.ok_or_else(|| Error::ChatTemplate { reason: "the model came without one".into() })?;
    let tokenizer = model.tokenizer()?;
    let text = |id: Option<u32>| match id {
        Some(id) => tokenizer.token_bytes(id).map(|bytes| Some(String::from_utf8_lossy(bytes).into_owned())),
        None => Ok(None),
    };
    let (bos, eos) = (text(tokenizer.bos())?, text(tokenizer.eos())?);
    template.render(messages, add_generation_prompt, bos.as_deref(), eos.as_deref())
}
