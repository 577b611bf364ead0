import type { KeptPrompt } from '../kept.js'
import { budgetText } from '../plan.js'
import { asset, page } from './page.js'

/** A page with a prompt's text, every token coloured by how many heads keep it, of all or of one. */
export function keptPage(model: string, prompts: readonly KeptPrompt[]): string {
  const shown = prompts.map(({ item, mode, tokens, lines }) => ({
    name: `${item.task} ${item.id}, ${mode}`,
    tokens,
    settings: lines.map(({ policy, budget, kept }) => ({ name: `${policy}, ${budgetText(budget ?? null)}`, kept })),
  }))
  return page('headwise inspect', { model, prompts: shown }, [asset('kept.js')])
}
