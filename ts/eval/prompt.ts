import { HeadwiseError } from '../errors.js'
import type { ChatMessage, Model } from '../model.js'
import type { Item, Turn } from './item.js'

/** An item in tokens. Nothing is added to them when they are read. */
export interface Prompt {
  /** The context by itself, as a query-agnostic session reads it. */
  context: Uint32Array
  /** Context and first question as one text, as a query-aware session reads them. */
  joint: Uint32Array
  /** Each question by itself, as it is read behind a compressed context. */
  questions: Uint32Array[]
  /** The right answer to each question but the last, as it stands in the cache before the next one. */
  answers: Uint32Array[]
  /** What is scored instead of asking. */
  continuation: Uint32Array
}

/** Tokenizes an item; with `chat` its texts go through the model's chat template, the context as part of the first message. */
export function encode(model: Model, item: Item, chat: boolean): Prompt {
  const plain = (text: string) => model.tokenize(text)
  const special = (text: string) => model.tokenize(text, { parseSpecial: true })
  const right = ({ answers }: Turn) => (item.metric === 'containsAll' ? answers.join(', ') : (answers[0] ?? ''))
  const [first, ...later] = item.turns
  const continuation = plain(item.continuation ?? '')
  if (!chat || !first) {
    const bos = model.info.bosToken === null ? [] : [model.info.bosToken]
    return {
      context: joined(bos, plain(item.context)),
      joint: joined(bos, plain(item.context + (first?.question ?? ''))),
      questions: item.turns.map(({ question }) => plain(question)),
      answers: item.turns.slice(0, -1).map((turn) => plain(` ${right(turn)}`)),
      continuation,
    }
  }
  // Texts of an item are plain text, even where they look like the template's special tokens.
  const content = item.context + first.question
  const messages: ChatMessage[] = [{ role: 'user', content }]
  let rendered = model.renderChat(messages)
  const at = rendered.indexOf(content)
  if (at < 0) throw unusable(item, 'the template changes the text of a message')
  const head = special(rendered.slice(0, at))
  const tail = special(rendered.slice(at + content.length))
  const questions = [joined(plain(first.question), tail)]
  const answers: Uint32Array[] = []
  let answer = right(first)
  for (const turn of later) {
    messages.push({ role: 'assistant', content: answer }, { role: 'user', content: turn.question })
    const whole = model.renderChat(messages)
    if (!whole.startsWith(rendered + answer)) throw unusable(item, 'the template changes what was said before')
    const rest = whole.slice(rendered.length + answer.length)
    const cut = rest.lastIndexOf(turn.question)
    if (cut < 0) throw unusable(item, 'the template changes the text of a message')
    answers.push(plain(answer))
    questions.push(
      joined(special(rest.slice(0, cut)), plain(turn.question), special(rest.slice(cut + turn.question.length))),
    )
    rendered = whole
    answer = right(turn)
  }
  return {
    context: joined(head, plain(item.context)),
    joint: joined(head, plain(content), tail),
    questions,
    answers,
    continuation,
  }
}

function unusable(item: Item, reason: string): HeadwiseError {
  return new HeadwiseError('ChatTemplate', `${item.task}/${item.id}: ${reason}`, { task: item.task, id: item.id })
}

function joined(...parts: readonly (Uint32Array | readonly number[])[]): Uint32Array {
  const out = new Uint32Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

/** How many first tokens all of these share. */
export function sharedPrefix(texts: readonly Uint32Array[]): number {
  const [first = new Uint32Array(), ...others] = texts
  return others.reduce((length, other) => {
    let same = 0
    while (same < Math.min(length, other.length) && first[same] === other[same]) same += 1
    return same
  }, first.length)
}
