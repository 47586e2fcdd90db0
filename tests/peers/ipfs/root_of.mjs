// Prints the UnixFS root (profile unixfs-v1-2025) of each file named on the command line.
import { importer } from 'ipfs-unixfs-importer'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'
import { balanced } from 'ipfs-unixfs-importer/layout'
import fs from 'node:fs'

const blocks = { put: (cid) => cid, has: () => false, get: () => { throw new Error('nothing is kept') } }
const profile = {
  cidVersion: 1,
  rawLeaves: true,
  reduceSingleLeafToSelf: true,
  wrapWithDirectory: false,
  chunker: fixedSize({ chunkSize: 1048576 }),
  layout: balanced({ maxChildrenPerNode: 1024 })
}
for (const path of process.argv.slice(2)) {
  for await (const entry of importer([{ content: fs.createReadStream(path) }], blocks, profile)) {
    console.log(entry.cid.toString())
  }
}
