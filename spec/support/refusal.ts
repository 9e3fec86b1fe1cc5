/** The error by which something is refused, of the class that it must have. */
import { expect } from 'chai'

/** @throws {Error} nothing was refused, or by an error of another class. */
export function refusalOf<Refusal extends Error>(
  errorClass: new (...args: never[]) => Refusal,
  act: () => unknown,
): Refusal {
  try {
    act()
  } catch (error) {
    expect(error).to.be.instanceOf(errorClass)
    return error as Refusal
  }
  throw new Error(`expected a ${errorClass.name}, got: none`)
}
