/**
 * Lint for correctness, with types. Size and taste belong to review, form to prettier; a disabled rule carries its reason.
 */
import js from '@eslint/js'
import { defineConfig, globalIgnores } from 'eslint/config'
import tseslint from 'typescript-eslint'

export default defineConfig(
  globalIgnores(['dist/', 'coverage/']),
  { linterOptions: { reportUnusedDisableDirectives: 'error', reportUnusedInlineConfigs: 'error' } },
  js.configs.recommended,
  {
    files: ['**/*.ts', '**/*.mjs', '*.js'],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', ignoreRestSiblings: true }],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      // A function without an await is `async` where it answers an interface: its errors become rejections.
      '@typescript-eslint/require-await': 'off',
      // Taste: `() => socket.destroy()` says what it does.
      '@typescript-eslint/no-confusing-void-expression': 'off',
      '@typescript-eslint/unified-signatures': 'off',
      // An empty function says "ignored on purpose", with its reason beside it.
      '@typescript-eslint/no-empty-function': 'off',
      'no-console': 'error',
      eqeqeq: 'error',
    },
  },
  {
    files: ['lib/cli/**', 'scripts/**', 'examples/**', 'bench/**', 'spec/**'],
    rules: { 'no-console': 'off' },
  },
  {
    files: ['**/*.mjs', '*.js'],
    languageOptions: { globals: { console: 'readonly', process: 'readonly', URL: 'readonly' } },
    // The rule does not see a cast that is written in JSDoc, which is how a plain script types what JSON.parse answers.
    rules: { '@typescript-eslint/no-unsafe-assignment': 'off' },
  },
  {
    files: ['spec/**'],
    rules: {
      // chai's assertions are expressions (`expect(x).to.be.true`), and sinon asserts on methods without calling them.
      '@typescript-eslint/no-unused-expressions': 'off',
      '@typescript-eslint/unbound-method': 'off',
    },
  },
  {
    files: ['views/assets/**/*.js'],
    languageOptions: {
      globals: Object.fromEntries(
        [
          ...[
            'AbortController',
            'CSS',
            'DOMParser',
            'FormData',
            'URL',
            'URLSearchParams',
            'clearTimeout',
            'console',
            'document',
          ],
          ...['fetch', 'history', 'localStorage', 'location', 'navigator', 'sessionStorage', 'setTimeout', 'window'],
        ].map((name) => [name, 'readonly']),
      ),
    },
  },
)
