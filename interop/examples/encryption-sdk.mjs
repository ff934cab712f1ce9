import { buildClient, CommitmentPolicy, KmsKeyringNode } from '@aws-crypto/client-node'

const { encrypt, decrypt } = buildClient(CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
const [generatorKeyId, recoveryKeyId] = process.argv.slice(2) // ARNs
const both = new KmsKeyringNode({ generatorKeyId, keyIds: [recoveryKeyId] })
const { result } = await encrypt(both, 'secret', { encryptionContext: { order: '1' } })
// Either key opens it.
const recovery = new KmsKeyringNode({ keyIds: [recoveryKeyId] })
const { plaintext, messageHeader } = await decrypt(recovery, result)
console.log(plaintext.toString(), messageHeader.encryptionContext.order)
