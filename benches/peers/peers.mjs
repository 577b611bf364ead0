// headwise beside other engines on the same file and the same token ids; see README.md.
import { existsSync } from 'node:fs'
import { availableParallelism, cpus, loadavg } from 'node:os'
import { start } from './engine.mjs'
import { Failure, readOptions } from './options.mjs'
import { adaSize, batch, INT8, selection, single } from './parts.mjs'
import { medians, ratios } from './ratios.mjs'
import { table, writeRecord } from './report.mjs'

const say = (line) => console.error(line)

async function main(args) {
  const options = readOptions(args)
  const { threads, parts, sizes, json, record } = options
  if (options.engines.includes('headwise') && !existsSync(new URL('../../dist/index.js', import.meta.url))) {
    throw new Failure('headwise is not built: run `npm run build` in the root folder, or measure --engines llama alone')
  }
  // llama.cpp's threads spin at barriers: on shared cores its decode takes many times as long, and our ratio flatters us.
  const load = Number(loadavg()[0].toFixed(2))
  if (load > 0.5) say(`something else is running (load ${load}): these figures are not fair to either engine`)

  const raw = {}
  const versions = {}
  if (parts.includes('single') || parts.includes('batch')) {
    // The first engine finds the model (headwise resolves references); the others open the file that it found.
    const engines = []
    for (const name of options.engines) {
      engines.push(await start(name, { model: engines[0]?.path ?? options.model, threads }))
      versions[name] = engines.at(-1).version
    }
    if (parts.includes('single')) {
      const int8 = options.engines.includes('headwise') && adaSize(sizes) ? [await startInt8(engines, options)] : []
      await single([...engines, ...int8], options, raw, say)
      for (const engine of int8) await engine.close()
    }
    if (parts.includes('batch')) await batch(engines, options, raw, say)
    for (const engine of engines) await engine.close()
  }
  if (parts.includes('selection')) {
    const headwise = await start('headwise', { model: options.model, threads, kvCodec: 'f32' })
    versions.headwise = headwise.version
    versions.torch = await selection(headwise, options, raw, say)
    await headwise.close()
  }

  const machine = {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    threads,
    load,
    platform: `${process.platform}-${process.arch}`,
    node: process.version,
    engines: versions,
  }
  const middle = medians(raw)
  const result = { machine, ratios: ratios(middle, sizes) }
  if (record) writeRecord(record, args, { ...result, medians: middle })
  console.log(json ? JSON.stringify({ ...result, raw }) : table(middle, result.ratios, options))
}

/** Our engine once more, on the file that the others opened. */
const startInt8 = async ([{ path }], { threads }) => ({
  ...(await start('headwise', { model: path, threads, kvCodec: 'int8' })),
  name: INT8,
})

try {
  await main(process.argv.slice(2))
} catch (error) {
  console.error(error instanceof Failure ? error.message : error)
  process.exit(1)
}
