// What @aws-crypto/client-node, the AWS Encryption SDK for JavaScript, makes of
// the server: prints a line of findings. Arguments: the ARNs of three keys.
import assert from 'node:assert/strict'
import { buildClient, CommitmentPolicy, KmsKeyringNode } from '@aws-crypto/client-node'

const { encrypt, decrypt } = buildClient(CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
const [first, second, stranger] = process.argv.slice(2)
const account = first.split(':')[4]
const plaintext = Buffer.from('a message longer than one frame. '.repeat(300))
const encryptionContext = { order: '1', ключ: 'значение' }
const keyring = (...keyIds) => new KmsKeyringNode({ keyIds })
const { result } = await encrypt(new KmsKeyringNode({ generatorKeyId: first, keyIds: [second] }), plaintext, { encryptionContext, frameLength: 4096 })

// opened lists by which keyrings the message opens.
const opened = []
for (const [name, ring] of Object.entries({
  first: keyring(first),
  second: keyring(second),
  stranger: keyring(stranger),
  discovery: new KmsKeyringNode({ discovery: true, discoveryFilter: { accountIDs: [account], partition: 'aws' } }),
  'another account': new KmsKeyringNode({ discovery: true, discoveryFilter: { accountIDs: ['999999999999'], partition: 'aws' } })
})) {
  const message = await decrypt(ring, result).catch(error => ({ error }))
  if (message.error) continue
  assert.deepEqual(message.plaintext, plaintext)
  for (const [key, value] of Object.entries(encryptionContext)) assert.equal(message.messageHeader.encryptionContext[key], value)
  opened.push(name)
}

// refused shows how a message fails with its bytes changed.
async function refused (change) {
  const message = Buffer.from(result)
  change(message)
  assert(!message.equals(result))
  const { message: text } = await decrypt(keyring(first, second), message).then(() => assert.fail('it opened'), error => error)
  return text
}
const context = Buffer.from('order')
console.log(JSON.stringify({
  opened,
  context: await refused(message => { message[message.indexOf(context) + context.length + 2] = 0x32 }), // order 2
  header: await refused(message => { message[3] ^= 1 }),
  dataKey: await refused(message => { message[message.indexOf(first) + first.length + 40] ^= 1; message[message.indexOf(second) + second.length + 40] ^= 1 }),
  body: await refused(message => { message[message.length - 2000] ^= 1 }),
  signature: await refused(message => { message[message.length - 1] ^= 1 })
}))
