import { readFileSync } from 'node:fs'
import path from 'node:path'
import { budgetText } from '../plan.js'
import type { Results } from '../results.js'

/** A file that goes into pages. */
export const asset = (name: string): string => readFileSync(path.join(__dirname, 'assets', name), 'utf8')

/** A page that needs nothing else: data, style and scripts stand in it. */
export function page(title: string, data: object, scripts: readonly string[]): string {
  // In JSON `<` only stands in strings, where its escape means the same; a script must not hold what would end its element.
  const json = JSON.stringify(data).replaceAll('<', '\\u003C')
  const inline = (text: string) => `<script>${text.replace(/<(?=\/script|!--)/gi, '\\x3C')}</script>`
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>${asset('style.css')}</style>
</head>
<body>
<main id="page"><noscript>This page draws itself with JavaScript.</noscript></main>
<script type="application/json" id="data">${json}</script>
${scripts.map(inline).join('\n')}
</body>
</html>
`
}

/**
 * The results as one page: curves, heat maps of what the heads keep, tables with all answers. Plotted in the reader's browser by Observable Plot,
 * which the page carries with it.
 */
export function reportPage(results: Results): string {
  const named = <T extends { budget: Results['results'][number]['budget'] }>(row: T) => ({
    ...row,
    budgetText: budgetText(row.budget),
  })
  const data = { ...results, results: results.results.map(named), kept: results.kept.map(named) }
  return page('headwise eval', data, ['vendor/d3.min.js', 'vendor/plot.umd.min.js', 'client.js'].map(asset))
}
