/**
 * What pages can do beyond working without a script: live mode, ticks, times, keys, copying. Reads the page and its data-*
 * attributes, holds no state but in the URL and two switches in localStorage.
 */
;(() => {
  'use strict'
  const $ = (selector, root = document) => root.querySelector(selector)
  const all = (selector, root = document) => [...root.querySelectorAll(selector)]
  const store = {
    get: (key) => {
      try {
        return localStorage.getItem(`express-tasks-redis:${key}`)
      } catch {
        return null
      }
    },
    set: (key, value) => {
      try {
        localStorage.setItem(`express-tasks-redis:${key}`, value)
      } catch {
        // Without storage a switch lasts as long as its page.
      }
    },
  }
  const say = (text) => {
    $('#says').textContent = text
  }

  // Times: relative, UTC or local; the server's clock counts, not this machine's.
  const ZONES = ['relative', 'UTC', 'local']
  let zone = ZONES.includes(store.get('zone')) ? store.get('zone') : 'relative'
  let ahead = Number(document.documentElement.dataset.now) - Date.now()
  const pad = (number) => String(number).padStart(2, '0')
  const span = (ms) => {
    const seconds = ms / 1000
    if (seconds < 10) return `${Math.round(seconds * 10) / 10} s`
    const units = [
      ['d', 86400],
      ['h', 3600],
      ['min', 60],
      ['s', 1],
    ]
    const index = units.findIndex(([, size]) => seconds >= size)
    const [word, size] = units[index]
    const whole = Math.floor(seconds / size)
    const next = units[index + 1]
    const rest = next ? Math.floor((seconds - whole * size) / next[1]) : 0
    return rest > 0 ? `${whole} ${word} ${rest} ${next[0]}` : `${whole} ${word}`
  }
  const utc = (iso) => `${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC`
  const written = (iso) => {
    const date = new Date(iso)
    if (zone === 'UTC') return utc(iso)
    if (zone === 'local') {
      const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`
      return `${day} ${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`
    }
    const away = date.getTime() - (Date.now() + ahead)
    return away > 1000 ? `in ${span(away)}` : `${span(Math.max(0, -away))} ago`
  }
  const writeTimes = () => {
    for (const time of all('time[datetime]:not([data-fixed])')) {
      const text = written(time.dateTime)
      if (time.textContent !== text) time.textContent = text
    }
    $('#zone').textContent = `Times: ${zone}`
    $('#zone').setAttribute('aria-pressed', String(zone !== 'relative'))
  }
  $('#zone').addEventListener('click', () => {
    zone = ZONES[(ZONES.indexOf(zone) + 1) % ZONES.length]
    store.set('zone', zone)
    writeTimes()
  })

  // Ticks
  const ticks = () => all('input[name="id"][type="checkbox"]')
  let lastTick
  const countTicks = () => {
    const boxes = ticks()
    const ticked = boxes.filter((box) => box.checked).length
    const badge = $('#ticked')
    if (badge) {
      badge.textContent = String(ticked)
      badge.hidden = ticked === 0
    }
    const every = $('#tick-all')
    if (every) {
      every.checked = ticked > 0 && ticked === boxes.length
      every.indeterminate = ticked > 0 && ticked < boxes.length
    }
    const scope = $('input[name="scope"][value="ticked"]')
    if (scope && ticked > 0) scope.checked = true
    for (const button of all('.bulk-buttons .button')) button.disabled = ticked === 0 && scope?.checked === true
  }
  document.addEventListener('click', (event) => {
    const { target } = event
    if (!target.matches?.('input[name="id"][type="checkbox"]')) return
    if (event.shiftKey && lastTick?.isConnected) {
      const boxes = ticks()
      const [from, to] = [boxes.indexOf(lastTick), boxes.indexOf(target)].sort((a, b) => a - b)
      for (const box of boxes.slice(from, to + 1)) box.checked = target.checked
    }
    lastTick = target
    countTicks()
  })
  document.addEventListener('change', (event) => {
    if (event.target.id === 'tick-all') {
      for (const box of ticks()) box.checked = event.target.checked
      countTicks()
    }
    if (event.target.name === 'scope') {
      if (event.target.value === 'all') for (const box of ticks()) box.checked = false
      countTicks()
    }
  })

  // Copying
  document.addEventListener('click', async (event) => {
    const button = event.target.closest?.('[data-copy]')
    if (!button) return
    try {
      await navigator.clipboard.writeText(button.dataset.copy)
      say('Copied')
      button.classList.add('copied')
      setTimeout(() => button.classList.remove('copied'), 1500)
    } catch {
      say('Copying is not allowed here')
    }
  })

  // One menu open at a time; a click elsewhere and Escape close it.
  document.addEventListener('click', (event) => {
    for (const menu of all('details.menu[open]')) if (!menu.contains(event.target)) menu.open = false
  })

  const enhance = () => {
    for (const hidden of all('.copy[hidden], .copy-text[hidden], #tick-all[hidden], #switches[hidden], #live[hidden]')) {
      hidden.hidden = false
    }
    writeTimes()
    countTicks()
  }

  // Live mode: the page itself is fetched again and its content swapped; never two requests at once.
  const TIMEOUT_MS = 10000
  const LONGEST_MS = 60000
  const live = $('#live')
  const says = $('#live-says')
  let seconds = Number(live?.dataset.live ?? 0)
  let failures = 0
  let updatedAt = Date.now()
  let dueAt = 0
  let timer
  let asking = false
  let stopped = false
  /** Of the last answer: a page in which nothing moved is not sent again. */
  let tag = ''
  /** The page is not there yet: ask until it is. */
  let untilBack = live?.dataset.untilBack !== undefined
  if (untilBack) seconds = 5

  const paused = () => {
    if (document.hidden) return 'hidden'
    if (ticks().some((box) => box.checked)) return 'rows ticked'
    if ($('dialog[open]')) return 'help open'
    if ($('details.menu[open]')) return 'menu open'
    const active = document.activeElement
    if (active?.matches('main input:not([type="checkbox"]):not([type="radio"]), main select, main textarea')) return 'field in use'
    const chosen = document.getSelection()
    if (chosen && !chosen.isCollapsed && $('#main').contains(chosen.anchorNode)) return 'text selected'
    return ''
  }
  const show = (text) => {
    if (says && says.textContent !== text) says.textContent = text
  }
  const tell = () => {
    if (!seconds || stopped) return
    const reason = paused()
    const wait = Math.max(0, Math.ceil((dueAt - Date.now()) / 1000))
    if (reason) show(`paused: ${reason}`)
    else if (failures > 0) show(asking ? 'not reachable, asking …' : `not reachable, again in ${wait} s`)
    else if (untilBack) show(asking ? 'asking …' : `not there yet, again in ${wait} s`)
    else show(`updated ${Math.max(0, Math.round((Date.now() - updatedAt) / 1000))} s ago`)
  }
  const swap = (next) => {
    const main = $('#main')
    const known = new Set(all('details[id]', main).map((each) => each.id))
    const open = new Set(all('details[open][id]', main).map((each) => each.id))
    const scrolled = new Map(all('.scroll', main).map((each, index) => [index, each.scrollLeft]))
    const here = $('tr.here', main)?.id
    const active = document.activeElement
    const focus = main.contains(active) ? pathTo(active, main) : null
    const top = window.scrollY
    main.replaceChildren(...next.childNodes)
    // What was there keeps its state; what is new comes as the page has it.
    for (const each of all('details[id]', main)) if (known.has(each.id)) each.open = open.has(each.id)
    all('.scroll', main).forEach((each, index) => {
      each.scrollLeft = scrolled.get(index) ?? 0
    })
    if (here) document.getElementById(here)?.classList.add('here')
    enhance()
    if (focus) find(focus, main)?.focus({ preventScroll: true })
    window.scrollTo({ top, behavior: 'instant' })
  }
  /** An element by id, by its row's id, or by its address: what is the same after a swap. */
  const pathTo = (element, main) => {
    if (element === main) return null
    const row = element.closest('tr[id]')
    const scope = row ? `#${CSS.escape(row.id)} ` : ''
    if (element.id) return `#${CSS.escape(element.id)}`
    const href = element.getAttribute('href')
    if (href) return `${scope}${element.localName}[href="${CSS.escape(href)}"]`
    if (element.getAttribute('aria-label')) return `${scope}${element.localName}[aria-label="${CSS.escape(element.getAttribute('aria-label'))}"]`
    const details = element.closest('details[id]')
    return details ? `#${CSS.escape(details.id)} > summary` : null
  }
  const find = (path, main) => {
    try {
      return $(path, main)
    } catch {
      return null
    }
  }
  /** Who asks may no longer see the page: a login may be behind this link. */
  const stop = () => {
    stopped = true
    const link = document.createElement('a')
    link.href = location.href
    link.textContent = 'open the page again'
    says.replaceChildren('stopped: ', link)
    say('Live stopped: open the page again')
  }
  const ask = async () => {
    asking = true
    const abort = new AbortController()
    const limit = setTimeout(() => abort.abort(), TIMEOUT_MS)
    try {
      const answer = await fetch(location.href, { signal: abort.signal, redirect: 'manual', credentials: 'same-origin', headers: { Accept: 'text/html', ...(tag && { 'If-None-Match': tag }) } })
      if (answer.type === 'opaqueredirect' || answer.status === 401 || answer.status === 403) {
        stop()
        return
      }
      if (answer.status === 304) {
        failures = 0
        updatedAt = Date.now()
        const at = new Date(answer.headers.get('Date') ?? NaN)
        if (!Number.isNaN(at.getTime())) {
          const clock = $('.foot time')
          clock.dateTime = at.toISOString()
          clock.textContent = utc(clock.dateTime)
        }
        return
      }
      if (!answer.ok && answer.status !== 404) throw new Error(String(answer.status))
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html')
      const next = $('#main', page)
      if (!next) throw new Error('no page')
      failures = 0
      tag = ''
      updatedAt = Date.now()
      ahead = Number(page.documentElement.dataset.now) - updatedAt
      // Something may have begun while the answer was on its way.
      if (seconds && !paused()) {
        swap(next)
        tag = answer.headers.get('ETag') ?? ''
        document.title = page.title
        if (untilBack) {
          untilBack = false
          setLive('')
          say('The page is back')
        }
        const clock = $('.foot time', page)
        if (clock) $('.foot time').replaceWith(clock)
      }
    } catch {
      failures += 1
      if (failures === 1) say('The server is not reachable')
    } finally {
      clearTimeout(limit)
      asking = false
    }
  }
  const tick = async () => {
    clearTimeout(timer)
    if (!seconds || stopped) return
    if (!asking && !paused() && Date.now() >= dueAt) {
      await ask()
      // The next turn is counted from the answer on.
      dueAt = Date.now() + Math.min(seconds * 1000 * 2 ** Math.min(failures, 6), Math.max(LONGEST_MS, seconds * 1000))
    }
    tell()
    clearTimeout(timer)
    timer = setTimeout(tick, 250)
  }
  const setLive = (value) => {
    seconds = Number(value)
    stopped = false
    failures = 0
    const choice = $('#live-choice')
    if (choice) choice.value = seconds ? String(seconds) : ''
    const url = new URL(location.href)
    if (seconds) url.searchParams.set('live', String(seconds))
    else url.searchParams.delete('live')
    history.replaceState(null, '', url)
    dueAt = Date.now() + seconds * 1000
    updatedAt = Date.now()
    if (seconds) tick()
    else show('')
  }
  if (live) {
    live.addEventListener('change', (event) => setLive(event.target.value))
    if (seconds) {
      dueAt = Date.now() + seconds * 1000
      tick()
    }
  }

  // Keys: never inside fields, never with a modifier, and a switch turns them off.
  let keysOn = store.get('keys') !== 'off'
  const help = $('#help')
  const keysSwitch = $('#keys-on')
  keysSwitch.checked = keysOn
  keysSwitch.addEventListener('change', () => {
    keysOn = keysSwitch.checked
    store.set('keys', keysOn ? 'on' : 'off')
  })
  $('#keys-help').addEventListener('click', () => help.showModal())
  let leader = 0
  const move = (step) => {
    const rows = all('tr[data-href]')
    if (rows.length === 0) return
    const index = rows.findIndex((row) => row.classList.contains('here'))
    const row = rows[Math.max(0, Math.min(rows.length - 1, index < 0 ? 0 : index + step))]
    for (const each of rows) each.classList.toggle('here', each === row)
    row.scrollIntoView({ block: 'nearest' })
    $('th a', row)?.focus({ preventScroll: true })
  }
  const go = (name) => location.assign(document.body.dataset[name])
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') {
      for (const menu of all('details.menu[open]')) {
        menu.open = false
        $('summary', menu)?.focus()
      }
      return
    }
    if (!keysOn || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return
    if (event.target.matches?.('input:not([type="checkbox"]):not([type="radio"]), select, textarea, [contenteditable]')) return
    if (help.open) return
    const afterG = Date.now() - leader < 1500
    leader = 0
    const here = $('tr.here')
    const act = {
      '/': () => ($('#text') ? $('#text').focus() : go('tasks')),
      j: () => move(1),
      k: () => move(-1),
      x: () => {
        const box = here && $('input[name="id"]', here)
        if (!box) return
        box.checked = !box.checked
        lastTick = box
        countTicks()
      },
      Enter: () => {
        if (here && event.target.closest?.('a, button, summary, input') === null) location.assign(here.dataset.href)
        else return false
      },
      g: () => {
        leader = Date.now()
      },
      l: () => live && setLive(seconds ? '' : '5'),
      '?': () => help.showModal(),
      ...(afterG && { o: () => go('overview'), t: () => go('tasks'), w: () => go('workers') }),
    }[event.key]
    if (act && act() !== false) event.preventDefault()
  })

  enhance()
  // Relative times go on; in live mode they come with the page as well.
  const age = () => {
    if (!document.hidden && zone === 'relative' && document.getSelection()?.isCollapsed !== false) writeTimes()
    setTimeout(age, 5000)
  }
  setTimeout(age, 5000)
})()
