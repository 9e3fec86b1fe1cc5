/** Long lists in parts: a storage takes no more in one call (`CALL_LIMITS`), and one answer should hold no more. */

/** The items in order, `size` at a time; an empty list has no part. */
export function* batchesOf<Item>(items: readonly Item[], size: number): Generator<readonly Item[], void, undefined> {
  for (let start = 0; start < items.length; start += size) yield items.slice(start, start + size)
}

/** Calls with `size` items each, one call after the other; the answers in the order of the items. */
export async function inBatches<Item, Answer>(
  items: readonly Item[],
  size: number,
  call: (batch: readonly Item[]) => Promise<readonly Answer[]>,
): Promise<readonly Answer[]> {
  if (items.length <= size) return await call(items)
  const answers: Answer[] = []
  for (const batch of batchesOf(items, size)) answers.push(...(await call(batch)))
  return answers
}
