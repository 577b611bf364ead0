import { closeSync, cpSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'ava'
import { Model } from '../ts/index.js'
import { fails, TINY, tiny, tokens } from './support.mjs'

const folder = mkdtempSync(path.join(tmpdir(), 'headwise-hostile-'))
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

function file(name: string, bytes: Uint8Array): string {
  const where = path.join(folder, name)
  writeFileSync(where, bytes)
  return where
}

/** A GGUF header (version 3) with string metadata and no tensors. */
function gguf(metadata: Record<string, string>): Buffer {
  const u64 = (n: number) => {
    const out = Buffer.alloc(8)
    out.writeBigUInt64LE(BigInt(n))
    return out
  }
  const text = (value: string) => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)])
  const version = Buffer.from([3, 0, 0, 0])
  const entries = Object.entries(metadata)
  const pairs = entries.flatMap(([key, value]) => [text(key), Buffer.from([8, 0, 0, 0]), text(value)])
  return Buffer.concat([Buffer.from('GGUF'), version, u64(0), u64(entries.length), ...pairs, Buffer.alloc(64)])
}

test('a missing file and a folder without a model say which', async (t) => {
  const missing = path.join(folder, 'nowhere.gguf')
  const error = await fails(t, 'ModelNotFound', () => Model.load(missing))
  t.true(error.message.includes('nowhere.gguf'))
})

test('what is no GGUF file is malformed', async (t) => {
  await fails(t, 'MalformedFile', () =>
    Model.load(file('text.gguf', Buffer.from('this is not a model, it is a sentence'))),
  )
})

test('an unknown architecture is refused by its name', async (t) => {
  const error = await fails(t, 'UnsupportedArchitecture', () =>
    Model.load(file('mamba.gguf', gguf({ 'general.architecture': 'mamba' }))),
  )
  t.is(error.details.architecture, 'mamba')
  t.true(String(error.details.supported).includes('qwen3'))
})

test('lengths that no file can have are refused without allocating them', async (t) => {
  const header = gguf({ 'general.architecture': 'llama' })
  const huge = Buffer.from(header)
  huge.writeBigUInt64LE(2n ** 60n, 16)
  const before = process.memoryUsage.rss()
  const error = await t.throwsAsync(() => Model.load(file('huge.gguf', huge)))
  t.true(['TruncatedFile', 'MalformedFile'].includes((error as { code?: string }).code ?? ''), String(error))
  t.true(process.memoryUsage.rss() - before < 64e6)
})

test('a real model cut short is truncated, wherever the cut is', async (t) => {
  const model = process.env.HEADWISE_MODEL
  if (!model) throw new Error('HEADWISE_MODEL is not set: run the tests with npm test')
  const bytes = Buffer.alloc(4_000_000)
  const source = openSync(model, 'r')
  readSync(source, bytes, 0, bytes.length, 0)
  closeSync(source)
  for (const length of [4, 20, 1000, 500_000, 3_999_999]) {
    await fails(t, 'TruncatedFile', () => Model.load(file('cut.gguf', bytes.subarray(0, length))))
  }
})

test('safetensors that lie about themselves are refused', async (t) => {
  const copy = path.join(folder, 'tiny')
  cpSync(TINY, copy, { recursive: true })
  const weights = path.join(copy, 'model.safetensors')
  const good = readFileSync(weights)
  const broken = async (bytes: Uint8Array) => {
    writeFileSync(weights, bytes)
    const error = await t.throwsAsync(() => Model.load(copy))
    t.true(
      ['TruncatedFile', 'MalformedFile', 'MissingTensor'].includes((error as { code?: string }).code ?? ''),
      String(error),
    )
  }
  await broken(good.subarray(0, good.length / 2))
  await broken(Buffer.concat([Buffer.alloc(8, 0xff), good.subarray(8)]))
  await broken(Buffer.from(good.toString('latin1').replace('model.norm.weight', 'model.norm.weighs'), 'latin1'))
})

test('after all that the process still works', async (t) => {
  await using model = await tiny()
  await using session = await model.createSession()
  t.is((await session.prefill(tokens(32))).seen, 32)
})

test('devices that are not there are refused by name', async (t) => {
  await fails(t, 'UnsupportedFeature', () => Model.load(TINY, { device: 'cuda' as never }))
})
