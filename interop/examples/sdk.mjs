import { CreateKeyCommand, GenerateMacCommand, KMSClient, VerifyMacCommand } from '@aws-sdk/client-kms'

const kms = new KMSClient({})
const { KeyMetadata } = await kms.send(new CreateKeyCommand({ KeySpec: 'HMAC_256', KeyUsage: 'GENERATE_VERIFY_MAC' }))
const input = { KeyId: KeyMetadata.KeyId, Message: Buffer.from('order 1'), MacAlgorithm: 'HMAC_SHA_256' }
const { Mac } = await kms.send(new GenerateMacCommand(input))
const { MacValid } = await kms.send(new VerifyMacCommand({ ...input, Mac }))
console.log(MacValid)
