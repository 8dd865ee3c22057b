'use strict';

// How events are shown: their list, JSON in colours, and the chart of their rate.

/** Makes an element: its attributes, then what is in it. Texts stay texts. */
function make(tag, attributes = {}, ...content) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...content);
  return element;
}

const twoDigits = (number) => String(number).padStart(2, '0');

/** The time of day with milliseconds. */
function clock(date) {
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(twoDigits).join(':');
  return `${time}.${String(date.getMilliseconds()).padStart(3, '0')}`;
}

/** The tokens of JSON that have a colour; a string before a colon is a key. */
const TOKENS = /("(?:\\.|[^"\\])*")(\s*:)?|\b(?:true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** A value as JSON over several lines, in coloured pieces. */
function coloured(value) {
  const text = JSON.stringify(value, null, 2) ?? 'nothing';
  const pieces = document.createDocumentFragment();
  let end = 0;
  for (const match of text.matchAll(TOKENS)) {
    const [whole, string, colon = ''] = match;
    const kind = string === undefined ? 'literal' : colon ? 'key' : 'string';
    pieces.append(text.slice(end, match.index), make('span', { class: kind }, string ?? whole), colon);
    end = match.index + whole.length;
  }
  pieces.append(text.slice(end));
  return pieces;
}

/** Fields that say little at a glance. */
const PLUMBING = new Set(['id', 'clientId', 'connectionId', 'messageType', 'timestamp', 'epoch', 'success']);

/** A value on one line, with what says most in front, cut to what a line can show. */
function brief(value) {
  let ordered = value;
  if (value !== null && typeof value === 'object' && !Array.isArray(value)) {
    const fields = Object.entries(value);
    const [last, first] = [true, false].map((is) => fields.filter(([name]) => PLUMBING.has(name) === is));
    ordered = Object.fromEntries([...first, ...last]);
  }
  const text = typeof ordered === 'string' ? ordered : JSON.stringify(ordered);
  return text === undefined ? '' : text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

/** The newest events, newest first. What is hidden by the filter, or comes while it is paused, is kept as well. */
class Feed {
  /** How many events are kept. */
  static LIMIT = 500;

  /** What stands for the directions. */
  static MARKS = { in: ['↓', 'received'], out: ['↑', 'sent'], ack: ['✓', 'acknowledged'], note: ['·', 'note'] };

  constructor(list, changed) {
    this.list = list;
    this.changed = changed;
    this.entries = [];
    this.fresh = [];
    this.filter = { text: '', direction: '' };
    this.paused = false;
    this.dropped = 0;
    this.scheduled = false;
  }

  /** Takes an event: `direction` is in, out, ack or note; `failed` marks what was refused. */
  add(direction, name, payload, failed = false) {
    const entry = { direction, name, payload, failed, time: new Date(), text: brief(payload) };
    this.fresh.push(entry);
    if (this.fresh.length > Feed.LIMIT) {
      this.fresh.shift();
      this.dropped += 1;
    }
    // A burst of events costs one pass over the page.
    if (!this.scheduled) {
      this.scheduled = true;
      setTimeout(() => this.flush(), 50);
    }
  }

  flush() {
    this.scheduled = false;
    if (!this.paused) {
      const fresh = this.fresh.splice(0);
      this.entries.push(...fresh);
      this.dropped += Math.max(0, this.entries.length - Feed.LIMIT);
      for (const { row } of this.entries.splice(0, this.entries.length - Feed.LIMIT)) row?.remove();
      this.list.prepend(...fresh.map((entry) => this.row(entry)).reverse());
    }
    this.changed();
  }

  pause(paused) {
    this.paused = paused;
    this.flush();
  }

  clear() {
    this.entries = [];
    this.fresh = [];
    this.dropped = 0;
    this.list.replaceChildren();
    this.changed();
  }

  show(filter) {
    Object.assign(this.filter, filter);
    for (const entry of this.entries) entry.row.hidden = !this.wanted(entry);
    this.changed();
  }

  wanted({ name, payload, direction }) {
    const { text, direction: only } = this.filter;
    if (only && direction !== only) return false;
    return !text || `${name} ${JSON.stringify(payload)}`.toLowerCase().includes(text.toLowerCase());
  }

  get shown() {
    return this.entries.filter(({ row }) => !row.hidden).length;
  }

  row(entry) {
    const [mark, meaning] = Feed.MARKS[entry.direction];
    const summary = make(
      'summary',
      {},
      make('time', { datetime: entry.time.toISOString() }, clock(entry.time)),
      make('span', { class: 'mark', 'aria-hidden': 'true' }, mark),
      make('span', { class: 'unseen' }, `${meaning}: `),
      make('span', { class: 'name' }, entry.name),
      make('span', { class: 'brief' }, entry.text),
    );
    const details = make('details', {}, summary);
    // Most are never opened.
    const open = () => details.append(make('pre', { tabindex: '0' }, coloured(entry.payload)));
    details.addEventListener('toggle', open, { once: true });
    entry.row = make('li', { class: `${entry.direction}${entry.failed ? ' failed' : ''}` }, details);
    entry.row.hidden = !this.wanted(entry);
    return entry.row;
  }
}

/** The events of each of the last seconds, as a picture of 60 bars. */
class Rate {
  static SECONDS = 60;

  constructor(svg, label) {
    this.label = label;
    this.counts = new Array(Rate.SECONDS).fill(0);
    this.current = 0;
    this.area = document.createElementNS('http://www.w3.org/2000/svg', 'path');
    svg.append(this.area);
    this.draw();
    setInterval(() => this.tick(), 1000);
  }

  count() {
    this.current += 1;
  }

  tick() {
    this.counts = [...this.counts.slice(1), this.current];
    this.current = 0;
    this.draw();
  }

  draw() {
    const most = Math.max(4, ...this.counts);
    const bars = this.counts.map((count, second) => {
      // Every second has a foot, so that the quiet ones are seen to be quiet.
      const height = 1 + (count / most) * 38;
      return `M${second * 4} ${40 - height}h3v${height}h-3z`;
    });
    this.area.setAttribute('d', bars.join(''));
    this.label.textContent = this.counts[this.counts.length - 1];
  }
}
