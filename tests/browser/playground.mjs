// The playground as its user handles it: by what its fields and buttons are called.

/** One tab with the playground. */
export class Playground {
  constructor(page) {
    this.page = page;
  }

  /** The field whose label begins with these words. */
  field(label) {
    return this.page.getByLabel(new RegExp(`^\\s*${label}`)).and(this.page.locator('input, textarea, select'));
  }

  button(name) {
    return this.page.getByRole('button', { name, exact: true });
  }

  async fill(fields) {
    for (const [label, text] of Object.entries(fields)) await this.field(label).fill(text);
  }

  /** Fills the form and asks to connect, which need not succeed. */
  async knock({ user, apiKey, ...fields }) {
    await this.fill(fields);
    if (user !== undefined || apiKey !== undefined) {
      const more = this.page.locator('#connect details');
      if (!(await more.evaluate((element) => element.open))) await more.locator('summary').click();
      await this.fill({ 'User ID': user ?? '', 'API key': apiKey ?? '' });
    }
    await this.button('Connect').click();
  }

  async connect(fields) {
    await this.knock(fields);
    await this.says('status', 'Connected');
  }

  /** Waits until the element with this id is seen to hold the text. */
  async says(id, text) {
    await this.page.locator(`#${id}`, { hasText: text }).filter({ visible: true }).waitFor();
  }

  async join(room) {
    await this.field('Room to join').fill(room);
    await this.button('Join').click();
    await this.page.getByRole('list', { name: 'Joined rooms' }).getByRole('button', { name: room, exact: true }).waitFor();
  }

  /** Sends the event of the form that is chosen by `kind`. */
  async send(kind, fields = {}) {
    await this.page.getByText(kind, { exact: true }).and(this.page.locator('.kinds span')).click();
    await this.fill(fields);
    await this.button('Send').click();
  }

  member(name) {
    return this.page.locator('#members li', { hasText: name });
  }

  /** The rows of the feed that have this direction (in, out, ack, note), name and text. */
  rows(direction, name, text = '') {
    const named = this.page.locator('.name').getByText(name, { exact: true });
    return this.page.locator(`#feed li.${direction}`).filter({ has: named }).filter({ hasText: text });
  }

  /** Waits until there is such a row. */
  async hears(direction, name, text) {
    await this.rows(direction, name, text).first().waitFor();
  }

  /** The payload of the newest such row, as the page shows it when it is opened. */
  async payload(direction, name, text) {
    const row = this.rows(direction, name, text).first();
    if (!(await row.locator('details').evaluate((element) => element.open))) await row.locator('summary').click();
    return JSON.parse(await row.locator('pre').textContent());
  }

  /** The acknowledgement that the page shows. */
  async ack() {
    return JSON.parse(await this.page.locator('#ack-body').textContent());
  }
}
