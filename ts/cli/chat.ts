import { stderr, stdin, stdout } from 'node:process'
import { createInterface } from 'node:readline/promises'
import { parseArgs } from 'node:util'
import { HeadwiseError } from '../errors.js'
import type { ChatMessage } from '../model.js'
import { one } from './arguments.js'
import { loadModel, MODEL_FLAGS, number, POLICY_FLAGS, policyFrom } from './options.js'

const HELP = `headwise chat REF: talks to a model through its own chat template. An empty line ends it.

  --system TEXT          system message
  --max-tokens N         most tokens of one answer (default 512)
  --temperature F        default 0 (greedy)
  --policy NAME          compress the cache after each question: a name or JSON (default: nothing)
  --keep F | --tokens-per-head N | --bytes N     its budget
  --threads N, --kv-codec C
`

export async function chat(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      ...MODEL_FLAGS,
      ...POLICY_FLAGS,
      system: { type: 'string' },
      'max-tokens': { type: 'string', default: '512' },
      temperature: { type: 'string', default: '0' },
      help: { type: 'boolean' },
    },
  })
  if (values.help) {
    stdout.write(HELP)
    return
  }
  const policy = policyFrom(values)
  const maxTokens = number('max-tokens', values['max-tokens'], (n) => Number.isInteger(n) && n > 0) as number
  const temperature = number('temperature', values.temperature, (n) => n >= 0) as number
  await using model = await loadModel(one(positionals, 'REF'), values)
  if (!model.info.hasChatTemplate) {
    throw new HeadwiseError('ChatTemplate', 'this model brings no chat template; use headwise run', {})
  }
  let session = await model.createSession({ policy })
  const messages: ChatMessage[] = values.system ? [{ role: 'system', content: values.system }] : []
  const terminal = createInterface({ input: stdin, output: stderr, prompt: '> ' })
  // The beginning of the rendered chat that is in the cache: each turn only adds to it.
  let rendered = ''
  terminal.prompt()
  for await (const line of terminal) {
    if (line.trim() === '') break
    messages.push({ role: 'user', content: line })
    const whole = model.renderChat(messages)
    if (!whole.startsWith(rendered)) {
      // The template changed what was said before: read the chat anew.
      await session.dispose()
      session = await model.createSession({ policy })
      rendered = ''
    }
    await session.prefill(whole.slice(rendered.length), { parseSpecial: true, compress: false })
    await session.compress().catch((error: unknown) => {
      // A chat that is still shorter than the policy's window has nothing to give away.
      if (!(error instanceof HeadwiseError && error.code === 'BudgetBelowProtected')) throw error
    })
    let content = ''
    let ended = false
    for await (const step of session.generate({ maxTokens, sampler: { temperature } })) {
      content += step.text
      stdout.write(step.text)
      ended = step.finishReason === 'eos'
    }
    stdout.write('\n')
    messages.push({ role: 'assistant', content })
    // The session feeds an end-of-turn token that the model drew with the next turn; one that it had no time to draw comes
    // from the template.
    rendered = ended ? model.renderChat(messages, { addGenerationPrompt: false }).trimEnd() : whole + content
    terminal.prompt()
  }
  terminal.close()
  await session.dispose()
}
