import { expect } from 'chai'
import { Stream, type PendingEntry } from '../../../lib/storage/memory/stream.ts'

const NOW = 1_000

function streamOf(...ids: readonly string[]): { stream: Stream; entryIds: string[] } {
  const stream = new Stream()
  return { stream, entryIds: ids.map((id) => stream.append(id, NOW)) }
}

function ids(entries: readonly { readonly id: string }[]): string[] {
  return entries.map(({ id }) => id)
}

describe('Stream', () => {
  it('gives each entry an id of its own that only grows, also when the clock is set back', () => {
    const stream = new Stream()
    const entryIds = [5, 5, 6, 3, 6].map((now) => stream.append('a', now))
    expect(entryIds).to.deep.equal(['5-0', '5-1', '6-0', '6-1', '6-2'])
    expect(stream.length).to.equal(5)
  })

  it('hands each entry to one consumer, oldest first', () => {
    const { stream } = streamOf('a', 'b', 'c')
    expect(ids(stream.read('x', 2, NOW))).to.deep.equal(['a', 'b'])
    expect(ids(stream.read('y', 2, NOW))).to.deep.equal(['c'])
    expect(stream.read('x', 2, NOW)).to.deep.equal([])
    expect(stream.length).to.equal(3)
  })

  it('hands out nothing when asked for nothing', () => {
    const { stream } = streamOf('a')
    expect(stream.read('x', 0, NOW)).to.deep.equal([])
    expect(stream.pendingOf('x')).to.equal(0)
  })

  it('keeps who has an entry, and since when', () => {
    const { stream, entryIds } = streamOf('a')
    stream.read('x', 1, NOW + 5)
    const row: PendingEntry = { entryId: '1000-0', id: 'a', consumer: 'x', deliveredAt: NOW + 5 }
    expect(stream.pending('', 100)).to.deep.equal({ rows: [row], next: '' })
    expect(stream.claim(entryIds[0] ?? '', 'y', NOW + 9)).to.equal(true)
    expect(stream.pending('', 100).rows).to.deep.equal([{ ...row, consumer: 'y', deliveredAt: NOW + 9 }])
  })

  it('lists what a consumer has, in the order of the entries, claimed ones included', () => {
    const { stream, entryIds } = streamOf('a', 'b', 'c')
    stream.read('x', 1, NOW)
    stream.read('y', 2, NOW)
    stream.claim(entryIds[0] ?? '', 'y', NOW)
    expect(ids(stream.own('y'))).to.deep.equal(['a', 'b', 'c'])
    expect(stream.own('x')).to.deep.equal([])
    expect([stream.pendingOf('x'), stream.pendingOf('y')]).to.deep.equal([0, 3])
  })

  it('lets no entry be claimed that nobody has read, or that is gone', () => {
    const { stream, entryIds } = streamOf('a')
    expect(stream.claim(entryIds[0] ?? '', 'x', NOW)).to.equal(false)
    expect(ids(stream.read('y', 1, NOW))).to.deep.equal(['a'])
    stream.remove(entryIds[0] ?? '')
    expect(stream.claim(entryIds[0] ?? '', 'x', NOW)).to.equal(false)
    expect([stream.pendingOf('x'), stream.pendingOf('y')]).to.deep.equal([0, 0])
  })

  it('removes an entry, read or not, with all that was known of it', () => {
    const { stream, entryIds } = streamOf('a', 'b', 'c')
    stream.read('x', 1, NOW)
    expect(entryIds.slice(0, 2).map((entryId) => stream.remove(entryId))).to.deep.equal([true, true])
    expect(stream.remove(entryIds[0] ?? '')).to.equal(false)
    expect(stream.pending('', 100).rows).to.deep.equal([])
    expect(ids(stream.read('y', 9, NOW))).to.deep.equal(['c'])
    expect([stream.length, stream.pendingOf('x')]).to.deep.equal([1, 0])
  })

  it('shows its pending list in pages, each entry once', () => {
    const { stream } = streamOf('a', 'b', 'c', 'd')
    stream.read('x', 9, NOW)
    const first = stream.pending('', 2)
    const second = stream.pending(first.next, 2)
    expect([...ids(first.rows), ...ids(second.rows)]).to.deep.equal(['a', 'b', 'c', 'd'])
    expect(stream.pending(second.next, 2)).to.deep.equal({ rows: [], next: '' })
  })

  it('goes on, in its pages, behind entries that have gone', () => {
    const { stream, entryIds } = streamOf('a', 'b', 'c', 'd')
    stream.read('x', 9, NOW)
    const first = stream.pending('', 2)
    stream.remove(entryIds[1] ?? '')
    stream.remove(entryIds[2] ?? '')
    const second = stream.pending(first.next, 2)
    expect(ids(second.rows)).to.deep.equal(['d'])
    expect(second.next).to.equal('')
  })

  it('answers copies: what was handed out does not change', () => {
    const { stream, entryIds } = streamOf('a')
    stream.read('x', 1, NOW)
    const { rows } = stream.pending('', 1)
    stream.claim(entryIds[0] ?? '', 'y', NOW + 1)
    expect(rows[0]).to.include({ consumer: 'x', deliveredAt: NOW })
  })
})
