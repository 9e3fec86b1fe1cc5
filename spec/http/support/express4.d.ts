/** Express 4 under the name it is installed by, as far as a host application needs it. */
declare module 'express4' {
  import type { Express } from 'express'
  export default function express(): Express
}
