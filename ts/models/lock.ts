import { randomUUID } from 'node:crypto'
import { mkdir, open, readFile, rename, stat, utimes } from 'node:fs/promises'
import { hostname } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { aborted, systemCode } from '../errors.js'
import { remove } from './files.js'

const HEARTBEAT_MS = 2_000
const STALE_MS = 15_000
const POLL_MS = 100

/**
 * Runs `body` while holding `lockFile`, across processes. The holder touches the file every two seconds; one that died
 * (its process is gone, or it was silent for 15 s) loses it. Node has no flock, and a lock that outlives a killed
 * download would be worse than none. What is written under it is checksummed, so a lost race costs time, not bytes.
 */
export async function withLock<T>(
  lockFile: string,
  signal: AbortSignal | undefined,
  onWait: () => void,
  body: () => Promise<T>,
): Promise<T> {
  await mkdir(path.dirname(lockFile), { recursive: true })
  let waited = false
  while (!(await tryAcquire(lockFile))) {
    if (await isStale(lockFile)) {
      await breakLock(lockFile)
      continue
    }
    if (!waited) onWait()
    waited = true
    await sleep(POLL_MS, undefined, signal ? { signal } : {}).catch(() => {
      throw aborted(signal)
    })
  }
  const heartbeat = setInterval(() => {
    const now = new Date()
    utimes(lockFile, now, now).catch(() => {})
  }, HEARTBEAT_MS)
  heartbeat.unref()
  try {
    return await body()
  } finally {
    clearInterval(heartbeat)
    await remove(lockFile)
  }
}

async function tryAcquire(lockFile: string): Promise<boolean> {
  try {
    const handle = await open(lockFile, 'wx')
    await handle.writeFile(JSON.stringify({ host: hostname(), pid: process.pid }))
    await handle.close()
    return true
  } catch (error) {
    // Windows says EPERM while another process is deleting the file.
    const code = systemCode(error)
    if (code === 'EEXIST' || (code === 'EPERM' && process.platform === 'win32')) return false
    throw error
  }
}

async function isStale(lockFile: string): Promise<boolean> {
  const info = await stat(lockFile).catch(() => undefined)
  if (!info) return false
  if (Date.now() - info.mtimeMs > STALE_MS) return true
  try {
    const { host, pid } = JSON.parse(await readFile(lockFile, 'utf8')) as { host: string; pid: number }
    if (host !== hostname()) return false
    process.kill(pid, 0)
    return false
  } catch (error) {
    return systemCode(error) === 'ESRCH'
  }
}

/** Of several that see the same dead lock one wins the rename; a live lock taken by mistake is put back. */
async function breakLock(lockFile: string): Promise<void> {
  const taken = `${lockFile}.${randomUUID()}`
  try {
    await rename(lockFile, taken)
  } catch {
    return
  }
  if (!(await isStale(taken))) await rename(taken, lockFile).catch(() => {})
  await remove(taken)
}
