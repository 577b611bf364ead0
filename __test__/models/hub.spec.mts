import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, mkdir, readdir, readFile, readlink, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { resolveModel } from '../../ts/models/resolve.js'
import { COMMIT, gitBlob, lfs, noise, sha256, small, TestHub } from './support/hub.mjs'
import { failure, folder, options } from './support/workspace.mjs'

const NAME = 'org/tiny-GGUF'
const DATA = noise(1_500_000)
const repo = (home: string) => path.join(home, 'hub', 'models--org--tiny-GGUF')
const blobs = (home: string) => readdir(path.join(repo(home), 'blobs')).catch(() => [] as string[])
const FILES = { 'tiny-Q4_K_M.gguf': lfs(DATA), 'README.md': small('hello') }
const oneFile = { [NAME]: { files: FILES } }

test('a file is fetched through the CDN into the layout that all clients of the hub share', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, oneFile)]
  const { given, events } = options(home, hub.endpoint)
  const model = await resolveModel(`hf:${NAME}:Q4_K_M`, given)
  const file = path.join(repo(home), 'snapshots', COMMIT, 'tiny-Q4_K_M.gguf')
  t.deepEqual(model, {
    path: file,
    format: 'gguf',
    source: 'hub',
    reference: `hf:${NAME}:Q4_K_M`,
    revision: COMMIT,
    cached: false,
  })
  t.true((await readFile(file)).equals(DATA))
  t.is(await readlink(file), path.join('..', '..', 'blobs', sha256(DATA)))
  t.is(await readFile(path.join(repo(home), 'refs', 'main'), 'utf8'), COMMIT)
  t.deepEqual(await blobs(home), [sha256(DATA)], 'no lock and no part is left')
  const received = events.filter((event) => event.phase === 'download')
  t.like(received.at(-1), { received: DATA.length, total: DATA.length, file: 'tiny-Q4_K_M.gguf', source: 'hub' })
  t.deepEqual([events[0]?.phase, events.at(-1)?.phase], ['resolve', 'ready'])
})

test('an unchanged file is asked about but not fetched again; with its commit it is not even asked about', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, oneFile)]
  const { given } = options(home, hub.endpoint)
  await resolveModel(`hf:${NAME}:tiny-Q4_K_M.gguf`, given)
  hub.seen.length = 0
  t.true((await resolveModel(`hf:${NAME}:tiny-Q4_K_M.gguf`, given)).cached)
  t.deepEqual(
    hub.seen.map(({ server, method }) => `${server} ${method}`),
    ['hub HEAD'],
  )
  hub.seen.length = 0
  t.true((await resolveModel(`hf:${NAME}@${COMMIT}:Q4_K_M`, given)).cached)
  t.deepEqual(hub.seen, [])
})

test('a new commit with the same content costs a link, one with new content a transfer', async (t) => {
  const tiny = { files: { 'tiny-Q4_K_M.gguf': lfs(DATA) }, commit: COMMIT }
  const [home, hub] = [await folder(t), await TestHub.start(t, { [NAME]: tiny })]
  const { given } = options(home, hub.endpoint)
  await resolveModel(`hf:${NAME}`, given)
  tiny.commit = 'b'.repeat(40)
  const relinked = await resolveModel(`hf:${NAME}`, given)
  t.true(relinked.path.includes(tiny.commit))
  t.is(hub.transfers().length, 1)
  tiny.commit = 'c'.repeat(40)
  tiny.files['tiny-Q4_K_M.gguf'] = lfs(noise(1000, 9))
  const changed = await resolveModel(`hf:${NAME}`, given)
  t.true((await readFile(changed.path)).equals(noise(1000, 9)))
  t.is(await readFile(path.join(repo(home), 'refs', 'main'), 'utf8'), tiny.commit)
})

test('a safetensors repository brings its configuration, tokenizer and the shards of its index', async (t) => {
  const index = JSON.stringify({ weight_map: { a: 'x-1.safetensors', b: 'x-2.safetensors' } })
  const files = {
    'config.json': small('{}'),
    'tokenizer.json': small('{"v":1}'),
    'tokenizer_config.json': small('{"c":1}'),
    'model.safetensors.index.json': small(index),
    'x-1.safetensors': lfs(noise(5000, 2)),
    'x-2.safetensors': lfs(noise(6000, 3)),
    'consolidated.safetensors': lfs(noise(7000, 4)),
    'pytorch_model.bin': lfs(noise(100, 5)),
  }
  const [home, hub] = [await folder(t), await TestHub.start(t, { [NAME]: { files } })]
  const { given } = options(home, hub.endpoint)
  const model = await resolveModel(`hf:${NAME}`, given)
  t.is(model.format, 'safetensors')
  const expected = Object.keys(files).filter((name) => !/consolidated|bin/.test(name))
  t.deepEqual((await readdir(model.path)).sort(), expected.sort())
  for (const name of expected) {
    t.true((await readFile(path.join(model.path, name))).equals(files[name as keyof typeof files].content), name)
  }
  t.true((await blobs(home)).includes(gitBlob(Buffer.from('{}'))), 'small files are named by git')
  hub.stop()
  t.is((await resolveModel(`hf:${NAME}`, { ...given, offline: true })).path, model.path)
})

test('a transfer that is cut twice is continued where it stopped', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, oneFile)]
  const { given, events } = options(home, hub.endpoint)
  hub.faults.push({ kind: 'cut', after: 400_000 }, { kind: 'cut', after: 300_000 })
  const model = await resolveModel(`hf:${NAME}:Q4_K_M`, given)
  t.true((await readFile(model.path)).equals(DATA))
  const ranges = hub.transfers().map(({ range }) => range)
  t.is(ranges.length, 3)
  t.is(ranges[0], undefined)
  t.true(Number(/bytes=(\d+)-/.exec(ranges[1] ?? '')?.[1]) > 0)
  t.true(Number(/bytes=(\d+)-/.exec(ranges[2] ?? '')?.[1]) > 400_000)
  t.is(events.filter((event) => event.phase === 'retry').length, 2)
})

test('what an earlier, failed call fetched is not fetched again', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, oneFile)]
  const { given } = options(home, hub.endpoint)
  hub.faults.push({ kind: 'cut', after: 700_000 })
  const once = { ...given, network: { ...given.network, transferRetries: 0 } }
  const error = await failure(t, resolveModel(`hf:${NAME}:Q4_K_M`, once), 'NetworkUnreachable')
  t.regex(error.message, /127\.0\.0\.1|of 1500000 bytes/)
  t.deepEqual(await blobs(home), [`${sha256(DATA)}.headwise.incomplete`])
  const model = await resolveModel(`hf:${NAME}:Q4_K_M`, given)
  t.true((await readFile(model.path)).equals(DATA))
  t.regex(hub.transfers()[1]?.range ?? '', /^bytes=[1-9]\d*-$/)
})

test('a server that ignores ranges makes the transfer start again, and it is still right', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, oneFile)]
  const { given } = options(home, hub.endpoint)
  hub.ignoreRange = true
  hub.faults.push({ kind: 'cut', after: 900_000 })
  t.true((await readFile((await resolveModel(`hf:${NAME}:Q4_K_M`, given)).path)).equals(DATA))
  t.is(hub.transfers().length, 2)
})

test('an answer that is shorter than the hub promised is continued, although it ended in good order', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, oneFile)]
  const { given } = options(home, hub.endpoint)
  hub.faults.push({ kind: 'short', after: 600_000 })
  t.true((await readFile((await resolveModel(`hf:${NAME}:Q4_K_M`, given)).path)).equals(DATA))
  t.is(hub.transfers()[1]?.range, 'bytes=600000-')
})

test('a server that falls silent is left and asked again', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, oneFile)]
  const { given } = options(home, hub.endpoint)
  hub.faults.push({ kind: 'silence', after: 500_000 })
  t.true((await readFile((await resolveModel(`hf:${NAME}:Q4_K_M`, given)).path)).equals(DATA))
})

test('429 and 503 are tried again, and Retry-After is waited for', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, oneFile)]
  const { given } = options(home, hub.endpoint)
  hub.hubFaults.push({ kind: 'status', status: 503 })
  hub.faults.push({ kind: 'status', status: 429, headers: { 'retry-after': '1' } }, { kind: 'status', status: 500 })
  t.true((await readFile((await resolveModel(`hf:${NAME}:Q4_K_M`, given)).path)).equals(DATA))
  const [first, second] = hub.transfers().map(({ at }) => at)
  t.true((second ?? 0) - (first ?? 0) > 950)
})

test('a server that keeps failing is given up on with its status', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, oneFile)]
  const { given } = options(home, hub.endpoint)
  hub.hubFaults.push(...Array.from({ length: 9 }, () => ({ kind: 'status', status: 502 }) as const))
  const error = await failure(t, resolveModel(`hf:${NAME}:Q4_K_M`, given), 'UnexpectedResponse')
  t.is(error.details.status, 502)
  t.is(hub.seen.length, 5)
})

test('a corrupted body is an error, and nothing of it stays in the cache', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, oneFile)]
  const { given } = options(home, hub.endpoint)
  hub.corrupt = true
  const error = await failure(t, resolveModel(`hf:${NAME}:Q4_K_M`, given), 'ChecksumMismatch')
  t.is(error.details.expected, sha256(DATA))
  t.deepEqual(await blobs(home), [])
  t.deepEqual(await readdir(path.join(repo(home), 'snapshots')).catch(() => []), [])
  t.deepEqual(await readdir(path.join(repo(home), 'refs')).catch(() => []), [])
  hub.corrupt = false
  t.true((await readFile((await resolveModel(`hf:${NAME}:Q4_K_M`, given)).path)).equals(DATA))
})

test('a part that is damaged on this disk is thrown away and fetched anew', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, oneFile)]
  const { given } = options(home, hub.endpoint)
  await mkdir(path.join(repo(home), 'blobs'), { recursive: true })
  await writeFile(path.join(repo(home), 'blobs', `${sha256(DATA)}.headwise.incomplete`), noise(1000, 77))
  t.true((await readFile((await resolveModel(`hf:${NAME}:Q4_K_M`, given)).path)).equals(DATA))
  t.deepEqual(
    hub.transfers().map(({ range }) => range),
    ['bytes=1000-', undefined],
  )
})

test('the token is shown to the hub and to nobody else', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, { [NAME]: { files: FILES, token: 'hf_secret' } })]
  const { given } = options(home, hub.endpoint, { HF_TOKEN: 'hf_secret' })
  await resolveModel(`hf:${NAME}:Q4_K_M`, given)
  const shown = new Set(hub.seen.filter(({ authorization }) => authorization).map(({ server }) => server))
  t.deepEqual([...shown], ['hub'])
  t.true(
    hub.seen
      .filter(({ server }) => server === 'hub')
      .every(({ authorization }) => authorization === 'Bearer hf_secret'),
  )
  t.is(hub.transfers().length, 1)
  const other = await folder(t)
  await writeFile(path.join(other, 'token'), 'hf_secret\n')
  const fromFile = await resolveModel(`hf:${NAME}:Q4_K_M`, options(other, hub.endpoint).given)
  t.false(fromFile.cached, 'the token file serves as well')
})

test('401 and 403 say HF_TOKEN', async (t) => {
  const repos = {
    [NAME]: { files: FILES, token: 'right' },
    'org/gated': { files: FILES, token: 'right', gated: true },
  }
  const [home, hub] = [await folder(t), await TestHub.start(t, repos)]
  const { given } = options(home, hub.endpoint)
  for (const reference of [`hf:${NAME}`, `hf:${NAME}:tiny-Q4_K_M.gguf`]) {
    const error = await failure(t, resolveModel(reference, given), 'Unauthorized')
    t.is(error.details.status, 401)
    t.regex(error.message, /HF_TOKEN/)
  }
  const wrong = options(home, hub.endpoint, { HF_TOKEN: 'wrong' }).given
  const error = await failure(t, resolveModel('hf:org/gated', wrong), 'Unauthorized')
  t.is(error.details.status, 403)
  t.regex(error.message, /accept its terms.*HF_TOKEN/)
  t.false(JSON.stringify(error.details).includes('wrong'), 'no token in an error')
})

test('404 says what is missing', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, oneFile)]
  const { given } = options(home, hub.endpoint)
  const missing = async (reference: string) =>
    (await failure(t, resolveModel(reference, given), 'ModelNotFound')).details.missing
  t.is(await missing('hf:org/none'), 'repository')
  t.is(await missing(`hf:${NAME}@v9`), 'revision')
  t.is(await missing(`hf:${NAME}:other.gguf`), 'file')
  t.regex(String(await missing(`hf:${NAME}:Q2_K`)), /Q2_K/)
})

test('what is in the cache serves offline and while the hub is away; what is not says so', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, oneFile)]
  const { given, events } = options(home, hub.endpoint)
  const online = await resolveModel(`hf:${NAME}:Q4_K_M`, given)
  hub.stop()
  const away = await resolveModel(`hf:${NAME}:Q4_K_M`, given)
  t.deepEqual(away, { ...online, cached: true })
  t.regex(events.findLast((event) => event.phase === 'cached')?.reason ?? '', /cannot be reached/)
  const offline = options(home, hub.endpoint, { HF_HUB_OFFLINE: '1' }).given
  t.is((await resolveModel(`hf:${NAME}`, offline)).path, online.path)
  await failure(t, resolveModel('hf:org/other', offline), 'NotCached')
  const none = await failure(t, resolveModel('hf:org/other', given), 'NetworkUnreachable')
  t.regex(none.message, /127\.0\.0\.1/)
})

test('a hostile or foreign server is refused before anything is written', async (t) => {
  const evil = { commit: '../../../../evil', files: { 'tiny-Q4_K_M.gguf': lfs(DATA) } }
  const [home, hub] = [await folder(t), await TestHub.start(t, { [NAME]: evil })]
  const { given } = options(home, hub.endpoint)
  await failure(t, resolveModel(`hf:${NAME}`, given), 'UnexpectedResponse')
  await failure(t, resolveModel(`hf:${NAME}:tiny-Q4_K_M.gguf`, given), 'UnexpectedResponse')
  await t.throwsAsync(access(path.join(home, 'hub')), { code: 'ENOENT' })
  const bad = options(home, 'ftp://example.org').given
  await failure(t, resolveModel(`hf:${NAME}`, bad), 'InvalidArgument')
})

test('an abort stops the transfer, keeps the part and is reported as an abort', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, oneFile)]
  const { given } = options(home, hub.endpoint)
  hub.pace = 20
  const abort = new AbortController()
  const reason = new Error('enough')
  const onProgress = (event: { phase: string; received?: number }) => {
    if (event.phase === 'download' && (event.received ?? 0) > 0) abort.abort(reason)
  }
  const call = resolveModel(`hf:${NAME}:Q4_K_M`, { ...given, onProgress, signal: abort.signal })
  const error = await failure(t, call, 'Aborted')
  t.is(error.cause, reason)
  t.deepEqual(await blobs(home), [`${sha256(DATA)}.headwise.incomplete`])
  await failure(t, resolveModel(`hf:${NAME}:Q4_K_M`, { ...given, signal: AbortSignal.abort() }), 'Aborted')
  hub.pace = 0
  t.true((await readFile((await resolveModel(`hf:${NAME}:Q4_K_M`, given)).path)).equals(DATA))
})

test('two calls for one file share one transfer', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, oneFile)]
  const { given, events } = options(home, hub.endpoint)
  hub.pace = 10
  const models = await Promise.all([1, 2].map(() => resolveModel(`hf:${NAME}:Q4_K_M`, given)))
  t.deepEqual(models.map(({ cached }) => cached).sort(), [false, true])
  t.is(hub.transfers().length, 1)
  t.true(events.some((event) => event.phase === 'wait'))
})

/** A process of its own that resolves one reference with the environment of a user. */
function elsewhere(home: string, endpoint: string, reference: string) {
  const script = fileURLToPath(new URL('./support/elsewhere.mts', import.meta.url))
  const env = { ...process.env, HF_HOME: home, HF_ENDPOINT: endpoint }
  const args = ['--import=@oxc-node/core/register', script, reference]
  const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text) => {
    output += text
  })
  return { child, ended: once(child, 'close').then(([status]) => ({ status: status as number | null, output })) }
}

test('two processes that want the same file share one transfer', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, oneFile)]
  hub.pace = 80
  const both = await Promise.all([1, 2].map(() => elsewhere(home, hub.endpoint, `hf:${NAME}:Q4_K_M`).ended))
  for (const { status, output } of both) {
    t.is(status, 0)
    t.true((await readFile(output.trim())).equals(DATA))
  }
  t.is(hub.transfers().length, 1)
  t.deepEqual(await blobs(home), [sha256(DATA)])
})

test('the lock of a killed process is taken over at once and its part is continued', async (t) => {
  const [home, hub] = [await folder(t), await TestHub.start(t, oneFile)]
  hub.pace = 50
  const { child, ended } = elsewhere(home, hub.endpoint, `hf:${NAME}:Q4_K_M`)
  const part = path.join(repo(home), 'blobs', `${sha256(DATA)}.headwise.incomplete`)
  while (((await stat(part).catch(() => undefined))?.size ?? 0) < 200_000) await sleep(10)
  child.kill('SIGKILL')
  await ended
  t.true((await blobs(home)).includes(`${sha256(DATA)}.headwise.lock`))
  hub.pace = 0
  const start = performance.now()
  const model = await resolveModel(`hf:${NAME}:Q4_K_M`, options(home, hub.endpoint).given)
  t.true(performance.now() - start < 5_000)
  t.true((await readFile(model.path)).equals(DATA))
  t.regex(hub.transfers()[1]?.range ?? '', /^bytes=[1-9]\d{5,}-$/)
})
