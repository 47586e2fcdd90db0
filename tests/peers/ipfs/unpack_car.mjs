// Reads a CAR from standard input, checks every block, and writes the file that its root names to standard output.
import { CarReader } from '@ipld/car'
import { exporter } from 'ipfs-unixfs-exporter'
import { CID } from 'multiformats/cid'
import { sha256 } from 'multiformats/hashes/sha2'
import { equals } from 'multiformats/bytes'

const parts = []
for await (const part of process.stdin) parts.push(part)
const reader = await CarReader.fromBytes(new Uint8Array(Buffer.concat(parts)))
for await (const { cid, bytes } of reader.blocks()) {
  const digest = await sha256.digest(bytes)
  if (!equals(digest.digest, cid.multihash.digest)) throw new Error(`${cid} does not hash to its name`)
}
const blocks = {
  async * get (cid) {
    const block = await reader.get(CID.parse(cid.toString()))
    if (block == null) throw new Error(`${cid} is not in the CAR`)
    yield block.bytes
  }
}
const [root] = await reader.getRoots()
const entry = await exporter(root.toString(), blocks)
for await (const chunk of entry.content()) process.stdout.write(chunk)
