/**
 * Arguments as the fields of a record. A hash whose values all take 64 bytes or less is one compact list on the server, half the
 * memory of a table: arguments of 65 to 244 bytes stand in two to four pieces, longer ones whole. Cut between characters, as
 * clients read each field as UTF-8.
 */
const PIECE_BYTES = 64
/** Of four pieces, each up to three bytes short for the sake of a character. */
const MOST_BYTES = 244

/** The fields, in the order of their pieces. */
export const ARGS_FIELDS = ['args', 'args2', 'args3', 'args4'] as const

/** @param args JSON, so that no piece is empty. */
export function cutArgs(args: string): readonly string[] {
  const size = Buffer.byteLength(args)
  if (size <= PIECE_BYTES || size > MOST_BYTES) return [args]
  const pieces: string[] = []
  if (size === args.length) {
    for (let at = 0; at < size; at += PIECE_BYTES) pieces.push(args.slice(at, at + PIECE_BYTES))
    return pieces
  }
  const bytes = Buffer.from(args)
  let at = 0
  while (at < size) {
    const end = endOfPiece(bytes, at)
    pieces.push(bytes.toString('utf8', at, end))
    at = end
  }
  return pieces
}

/** Where the piece that begins at `at` ends: not inside a character. */
function endOfPiece(bytes: Buffer, at: number): number {
  const isInside = (byte = 0): boolean => byte >= 0x80 && byte < 0xc0
  let end = Math.min(at + PIECE_BYTES, bytes.length)
  while (isInside(bytes[end])) end -= 1
  return end
}
