import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { LONG } from './parts.mjs'
import { unit } from './ratios.mjs'

const RECORDS = new URL('records/', import.meta.url)

/** One line a figure with every engine's median, then one line a ratio. */
export function table(middle, ratios, { repeats, longRepeats, threads }) {
  const engines = Object.keys(middle)
  const figures = [...new Set(engines.flatMap((engine) => Object.keys(middle[engine])))]
  const legend = 'above 1, headwise is faster'
  const width = Math.max(...[...figures, ...Object.keys(ratios), legend].map((name) => name.length))
  const line = (name, cells) => name.padEnd(width) + cells.map((cell) => cell.padStart(14)).join('')
  const lines = [
    `medians of rounds: ${repeats}, beyond ${LONG} tokens ${longRepeats}; threads: ${threads}`,
    '',
    line('', ['', ...engines]),
  ]
  for (const figure of figures) {
    const values = engines.map((engine) => middle[engine][figure]?.toFixed(1) ?? '')
    lines.push(line(figure, [unit(figure), ...values]))
  }
  if (Object.keys(ratios).length > 0) lines.push('', line(legend, ['ratio']))
  for (const [name, ratio] of Object.entries(ratios)) lines.push(line(name, [ratio.toFixed(2)]))
  return lines.join('\n')
}

/** Writes `records/NAME.json`, and the table of all records. */
export function writeRecord(name, args, { machine, ratios, medians }) {
  // Its name and this machine's Python are nothing to repeat.
  const own = /^--(record|python)$/
  const shown = args.filter((arg, at) => !own.test(arg.split('=')[0]) && !own.test(args[at - 1]))
  const command = ['npm run bench:peers', ...(shown.length > 0 ? ['--', ...shown] : [])].join(' ')
  const record = { date: new Date().toISOString().slice(0, 10), commit: commit(), command, machine, ratios, medians }
  writeFileSync(new URL(`${name}.json`, RECORDS), `${JSON.stringify(record, null, 2)}\n`)
  writeFileSync(new URL('README.md', RECORDS), recordsTable())
}

/** The commit that was measured, if this is a clone; with `-dirty` when the tree had changes. */
function commit() {
  try {
    const args = ['describe', '--always', '--dirty', '--exclude', '*']
    return execFileSync('git', args, { cwd: RECORDS, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  } catch {
    return undefined
  }
}

function recordsTable() {
  const files = readdirSync(RECORDS).filter((file) => file.endsWith('.json'))
  const records = files.sort().map((file) => [file, JSON.parse(readFileSync(new URL(file, RECORDS), 'utf8'))])
  const names = [...new Set(records.flatMap(([, { ratios }]) => Object.keys(ratios)))]
  const rows = [
    ['', ...records.map(([file]) => `[${file.replace(/\.json$/, '')}](${file})`)],
    ['processor', ...records.map(([, { machine }]) => machine.cpu)],
    ['cores, threads', ...records.map(([, { machine }]) => `${machine.cores}, ${machine.threads}`)],
    ['date', ...records.map(([, { date }]) => date)],
    ...names.map((name) => [`\`${name}\``, ...records.map(([, { ratios }]) => ratios[name]?.toFixed(2) ?? '')]),
  ]
  return [
    '# Records',
    '',
    'Written by `npm run bench:peers -- --record NAME`, one file a class of machines. Ratios of medians; above 1, headwise is faster.',
    '',
    ...markdown(rows),
    '',
  ].join('\n')
}

/** A table as the formatter wants it: padded, the first column to the left. */
function markdown(rows) {
  const widths = rows[0].map((_, column) => Math.max(3, ...rows.map((row) => row[column].length)))
  const line = (cells) => `| ${cells.join(' | ')} |`
  const padded = rows.map((row) =>
    line(row.map((cell, column) => (column ? cell.padStart(widths[column]) : cell.padEnd(widths[0])))),
  )
  const rule = line(widths.map((width, column) => (column ? `${'-'.repeat(width - 1)}:` : '-'.repeat(width))))
  return padded.toSpliced(1, 0, rule)
}
