import { bytes } from '../cli/progress.js'
import type { DemoAnswer, DemoResult, DemoRow, HeatMap } from './run.js'

const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }

function html(text: string): string {
  return text.replace(/[&<>"]/g, (c) => escapes[c] as string)
}

const STYLE = `
:root { color-scheme: light dark; --ink: #1b2026; --soft: #5d6875; --line: #d9dee4; --paper: #fff; --card: #f6f8fa; --heat: 210 85% 42%; --good: #1a7f4b; --bad: #b3362c }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf1; --soft: #9aa6b3; --line: #333b45; --paper: #14181d; --card: #1c2229; --heat: 200 90% 60%; --good: #5ccf95; --bad: #ff8a7d } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 72rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
h1 { font-size: 1.6rem; margin: 0 0 .25rem } h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem } p { margin: .25rem 0 1rem; color: var(--soft); max-width: 46rem }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100% }
.rows th, .rows td { text-align: right; padding: .35rem .7rem; border-bottom: 1px solid var(--line); white-space: nowrap }
.rows th:first-child, .rows td:first-child { text-align: left } th { font-weight: 600; color: var(--soft); font-size: .85rem }
.bar { display: inline-block; width: 6rem; height: .6rem; margin-right: .5rem; background: var(--line); border-radius: .3rem; overflow: hidden } .count { display: inline-block; min-width: 4.2rem } .bar i { display: block; height: 100%; background: hsl(var(--heat)) }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 1rem } figure { margin: 0; padding: .8rem; background: var(--card); border-radius: .5rem }
figcaption { font-size: .85rem; margin-bottom: .5rem } .map { display: grid; gap: 1px; grid-template-columns: 1.8rem repeat(var(--heads), 1fr); font-size: .6rem; color: var(--soft) }
.map b { font-weight: 400; line-height: .8rem } .map i { height: .8rem; border-radius: 1px; background: hsl(var(--heat) / var(--share)) }
.scale { display: flex; align-items: center; gap: .5rem; font-size: .8rem; color: var(--soft); margin-bottom: .8rem } .scale i { width: 8rem; height: .7rem; background: linear-gradient(to right, transparent, hsl(var(--heat))); border: 1px solid var(--line) }
details { margin: .3rem 0 } summary { cursor: pointer } .answers td { text-align: left; padding: .25rem .7rem; border-bottom: 1px solid var(--line); vertical-align: top } .yes { color: var(--good) } .no { color: var(--bad) }
`

function resultRow(row: DemoRow): string {
  const share = row.total ? row.correct / row.total : 0
  const full = row.policy === 'full'
  const cells = [
    html(row.policy),
    full ? 'all' : `${row.keep * 100} %`,
    row.error
      ? 'budget below window'
      : `<span class="bar"><i style="width:${share * 100}%"></i></span><span class="count">${row.correct} of ${row.total}</span>`,
    bytes(row.kvBytesBefore),
    full ? '' : bytes(row.kvBytesAfter),
    full ? '' : `${row.compressMs.toFixed(1)} ms`,
    `${row.decodeMsPerToken.toFixed(1)} ms`,
  ]
  return `<tr>${cells.map((cell) => `<td>${cell}</td>`).join('')}</tr>`
}

function results(rows: readonly DemoRow[]): string {
  const titles = ['policy', 'kept', 'right answers', 'KV cache before', 'after', 'compress', 'decode a token']
  const head = titles.map((title) => `<th scope="col">${title}</th>`).join('')
  return `<div class="scroll"><table class="rows"><thead><tr>${head}</tr></thead><tbody>${rows.map(resultRow).join('')}</tbody></table></div>`
}

/** How many times the average head's share each head keeps. */
function relative(map: HeatMap): number[][] {
  const shares = map.share.flat()
  const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length
  return map.share.map((layer) => layer.map((share) => share / mean))
}

/** Full colour is the largest multiple of the average on the page, so that small budgets can be compared with large ones. */
function heatMap(map: HeatMap, largest: number): string {
  const heads = map.share[0]?.length ?? 0
  const cells = relative(map).map((layer, l) => {
    const shares = layer.map((times, h) => {
      const title = `layer ${l}, head ${h}: ${((map.share[l]?.[h] ?? 0) * 100).toFixed(1)} %`
      return `<i style="--share:${(times / largest).toFixed(3)}" title="${title}"></i>`
    })
    return `<b>${l % 5 === 0 ? l : ''}</b>${shares.join('')}`
  })
  const name = `${html(map.policy)} at ${map.keep * 100} %`
  return `<figure><figcaption>${name}</figcaption><div class="map" style="--heads:${heads}" role="img" aria-label="Share of slots kept by layer and head, ${name}">${cells.join('')}</div></figure>`
}

function answerList(answers: readonly DemoAnswer[], row: DemoRow): string {
  const mine = answers.filter((a) => a.policy === row.policy && a.keep === row.keep && a.question.needle === row.needle)
  const lines = mine.map(({ question, text, correct }) => {
    const cells = [html(question.prompt.trim()), html(question.answer), html(text.trim())]
    return `<tr>${cells.map((cell) => `<td>${cell}</td>`).join('')}<td class="${correct ? 'yes' : 'no'}">${correct ? 'right' : 'wrong'}</td></tr>`
  })
  const title = `${html(row.policy)}${row.policy === 'full' ? '' : ` at ${row.keep * 100} %`}, ${row.needle}: ${row.correct} of ${row.total}`
  return `<details><summary>${title}</summary><div class="scroll"><table class="answers"><tr><th>asked</th><th>wanted</th><th>answered</th><th></th></tr>${lines.join('')}</table></div></details>`
}

/** The demo's result as one self-contained page. */
export function demoReport(result: DemoResult, model: string): string {
  const kinds = [...new Set(result.rows.map((row) => row.needle))]
  const titles = { phrase: 'Secret phrases of three words', serial: 'Serial numbers' }
  const maps = result.heatMaps.filter((map) => map.policy !== 'full')
  const largest = Math.max(...maps.flatMap((map) => relative(map).flat()), 1)
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>headwise demo</title><style>${STYLE}</style></head><body>
<h1>headwise demo</h1>
<p>${html(model)} answers questions about facts in the middle of documents of about ${result.promptTokens} tokens. Each document is read once and forked; each policy then cuts the cache to the same budget before the answer is decoded.</p>
${kinds.map((kind) => `<h2>${titles[kind]}</h2>${results(result.rows.filter((row) => row.needle === kind))}`).join('\n')}
<h2>Where the kept slots are</h2>
<p>How much of the document each KV head keeps for one question, against the average head at that budget; layers from top to bottom, heads from left to right. A policy that treats all heads alike is one flat colour. Point at a cell for its share.</p>
<div class="scale">nothing <i></i> ${largest.toFixed(1)} times the average</div>
<div class="maps">${maps.map((map) => heatMap(map, largest)).join('')}</div>
<h2>All answers</h2>
${result.rows.map((row) => answerList(result.answers, row)).join('\n')}
</body></html>
`
}
