// The tests' side of the Node clients: one request a line in, one answer a line
// out (see type script in client_test.go).
import { createInterface } from 'node:readline'

function native (value) {
  if (Array.isArray(value)) return value.map(native)
  if (value === null || typeof value !== 'object') return value
  if ('$bytes' in value) return Buffer.from(value.$bytes, 'base64')
  if ('$time' in value) return new Date(value.$time)
  return Object.fromEntries(Object.entries(value).map(([name, v]) => [name, native(v)]))
}

function wire (name, value) {
  const real = this[name] // a Buffer has become an object in value
  return real instanceof Uint8Array ? Buffer.from(real).toString('base64') : value
}

// serve answers with the client's knows(operation), call(operation, region, input)
// and pages(operation, region, input, size). refused(error) shows an answered
// error as { code, class, message }, and is undefined for any other, which ends
// the process.
export async function serve ({ knows, call, pages, refused }) {
  async function answer (request) {
    if (request.knows) return { known: knows(request.knows) }
    const input = native(request.in ?? {})
    if (!request.pages) return call(request.do, request.region, input)
    return { pages: await pages(request.pages, request.region, input, request.size) }
  }
  for await (const line of createInterface({ input: process.stdin })) {
    let result
    try {
      result = { out: await answer(JSON.parse(line)) }
    } catch (error) {
      result = { error: refused(error) }
      if (!result.error) throw error
    }
    process.stdout.write(JSON.stringify(result, wire) + '\n')
  }
}
