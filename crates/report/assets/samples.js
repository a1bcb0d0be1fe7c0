// Prompts with their pictures and responses; filtered, sorted, searched.

const PROMPTS_AT_ONCE = 12;

const ORDERS = {
  newest: ["newest step", (prompt) => prompt.step],
  oldest: ["oldest step", (prompt) => -prompt.step],
  divergence: ["divergence, mean: highest", (_, response) => response.mean],
  "divergence-low": ["divergence, mean: lowest", (_, response) => (response.mean == null ? null : -response.mean)],
  token: ["divergence of one token: highest", (_, response) => response.largest],
  reward: ["reward: highest", (_, response) => response.reward],
  advantage: ["advantage: highest", (_, response) => response.advantage],
};

for (const prompt of data.prompts) {
  for (const response of prompt.responses) {
    response.text ||= response.pieces.join("");
    response.searched = `${prompt.problem}\n${prompt.answer}\n${prompt.row}\n${response.text}`.toLowerCase();
  }
}

/** Where the heat is full: most tokens lie far below the few that depend on the picture. */
const hottest = (() => {
  const sizes = data.prompts.flatMap((prompt) => prompt.responses.flatMap((response) => response.divergence.filter((value) => value != null).map(Math.abs)));
  sizes.sort((a, b) => a - b);
  return Math.max(0.1, Number((sizes[Math.floor(sizes.length * 0.98)] ?? 1).toPrecision(2)));
})();

const hasHeat = data.prompts.some((prompt) => prompt.responses.some((response) => response.divergence.length));

if (!hasHeat) for (const name of ["divergence", "divergence-low", "token"]) delete ORDERS[name];

function samplesView() {
  const section = document.getElementById("samples");
  if (!data.prompts.length) {
    section.append(make("p", { class: "soft" }, "No run kept samples (trainer.samples_per_step)."));
    return () => {};
  }
  const controls = filterBar();
  const list = make("div", { class: "charts", style: "grid-template-columns: minmax(0, 1fr)" });
  const more = make("button", { class: "plain", onclick: () => show(PROMPTS_AT_ONCE) }, "Show more");
  let [found, shown] = [[], 0];
  function show(count) {
    list.append(...found.slice(shown, shown + count).map(promptCard));
    shown = Math.min(found.length, shown + count);
    more.hidden = shown === found.length;
    more.textContent = `Show more (${(found.length - shown).toLocaleString("en")} prompts)`;
  }
  section.append(controls.element, list, make("div", {}, more));
  return () => {
    controls.update();
    found = select();
    shown = 0;
    list.replaceChildren();
    show(PROMPTS_AT_ONCE);
    const num = found.reduce((sum, { responses }) => sum + responses.length, 0);
    const all = data.prompts.reduce((sum, prompt) => sum + prompt.responses.length, 0);
    controls.told.textContent = `${num.toLocaleString("en")} of ${all.toLocaleString("en")} responses, ${found.length.toLocaleString("en")} prompts`;
  };
}

/** What the filters let through, in order: prompts with those of their responses that count. */
function select() {
  const { from, to, correct, min, find, order } = state;
  const words = find.trim().toLowerCase();
  const isWanted = (response) =>
    (correct === "all" || response.correct === (correct === "right")) &&
    (min == null || (response.mean != null && response.mean >= min)) &&
    (!words || response.searched.includes(words));
  const [, key] = ORDERS[order];
  const found = [];
  for (const prompt of data.prompts) {
    if (!state.runs[prompt.run] || (from != null && prompt.step < from) || (to != null && prompt.step > to)) continue;
    const responses = prompt.responses.filter(isWanted).map((response) => ({ response, key: key(prompt, response) ?? -Infinity }));
    if (!responses.length) continue;
    responses.sort((a, b) => b.key - a.key || 0);
    found.push({ prompt, responses: responses.map(({ response }) => response), key: responses[0].key });
  }
  return found.sort((a, b) => b.key - a.key || 0);
}

function filterBar() {
  const number = (key, label, step) => make("input", { type: "number", "aria-label": label, placeholder: label, step, oninput: (event) => remember({ [key]: event.target.value }) });
  const [from, to] = [number("from", "from", 1), number("to", "to", 1)];
  const min = number("min", "least", 0.05);
  const verdicts = ["all", "right", "wrong"].map((name) => {
    const input = make("input", { type: "radio", class: "unseen", name: "correct", value: name, onchange: () => remember({ correct: name === "all" ? "" : name }) });
    return make("label", {}, input, name);
  });
  const options = Object.entries(ORDERS).map(([name, [label]]) => make("option", { value: name }, label));
  const order = make("select", { onchange: () => remember({ sort: order.value }) }, options);
  const find = make("input", { type: "search", placeholder: "in prompts and responses", oninput: () => remember({ find: find.value }) });
  const told = make("output", { class: "soft number push", role: "status" });
  const element = make("div", { class: "card filters bar", role: "search" },
    make("label", { class: "steps" }, "Steps", from, to),
    make("fieldset", { "aria-label": "Verdict" }, verdicts),
    make("label", {}, "Sort", order),
    hasHeat && make("label", { class: "steps", title: "mean over the response's tokens, in nats" }, "Divergence", min),
    make("label", { class: "find" }, "Find", find),
    hasHeat && make("span", { class: "heat", title: "log pi(token | picture) - log pi(token | masked picture), in nats" },
      `−${hottest}`, make("i"), `+${hottest} nats: likelier with the picture`),
    told);
  const put = (input, value) => document.activeElement !== input && (input.value = value ?? "");
  const update = () => {
    put(from, state.from);
    put(to, state.to);
    put(min, state.min);
    put(find, state.find);
    order.value = state.order;
    for (const input of element.querySelectorAll("[name=correct]")) input.checked = input.value === state.correct;
  };
  return { element, told, update };
}

/** A text with what is searched for marked. */
function marked(text) {
  const words = state.find.trim().toLowerCase();
  const lower = text.toLowerCase();
  // letters whose small form is longer would move the places
  if (!words || lower.length !== text.length) return [text];
  const parts = [];
  let at = 0;
  for (let next = lower.indexOf(words); next >= 0; next = lower.indexOf(words, at)) {
    parts.push(text.slice(at, next), make("mark", {}, text.slice(next, next + words.length)));
    at = next + words.length;
  }
  return [...parts, text.slice(at)];
}

function promptCard({ prompt, responses }) {
  const some = responses.length < prompt.responses.length;
  const count = some ? `${responses.length} of ${prompt.responses.length} responses` : `${responses.length} responses`;
  const pictures = [...prompt.pictures.map((p, at) => figure(p, "picture", at)), ...prompt.masked.map((p, at) => figure(p, "masked", at))];
  return make("article", { class: "card prompt" },
    make("div", { class: "facts" },
      make("h3", {}, `Step ${prompt.step.toLocaleString("en")}`),
      data.runs.length > 1 && make("span", {}, make("span", { class: "swatch", style: colourStyle(prompt.run) }), ` ${data.runs[prompt.run].name}`),
      make("span", {}, prompt.row), make("span", {}, count)),
    make("div", { class: "asked" },
      pictures.length > 0 && make("div", { class: "pictures" }, pictures),
      make("div", { class: "words" },
        make("div", {}, make("span", { class: "term" }, "Problem"), make("div", { class: "text" }, marked(prompt.problem))),
        make("div", {}, make("span", { class: "term" }, "Answer"), make("div", { class: "text" }, marked(prompt.answer))))),
    make("div", { class: "responses" }, responses.map(responseCard)));
}

function figure({ path, at }, kind, slot) {
  const caption = make("figcaption", {}, slot ? `${kind} ${slot + 1}` : kind);
  if (at == null) return make("figure", {}, make("div", { class: "gone" }, `left out: ${path}`), caption);
  const image = make("img", { alt: `${kind}: ${path}`, onload: () => element.classList.toggle("small", image.naturalWidth < 168) });
  const button = make("button", { title: "Larger or smaller", onclick: () => element.classList.toggle("large") }, image);
  const element = make("figure", {}, button, caption);
  image.src = `data:image/png;base64,${data.pictures[at]}`;
  return element;
}

function responseCard(response) {
  const parts = Object.entries(response.parts).map(([name, score]) => make("span", { class: "number" }, `${name} ${short(score)}`));
  const text = make("div", { class: "text", tabindex: 0, role: "group", "aria-label": "response" }, response.divergence.length ? heated(response) : marked(response.text));
  return make("div", { class: "response", style: `--of: var(--${response.correct ? "right" : "wrong"})` },
    make("div", { class: "facts" },
      make("span", { class: "verdict" }, response.correct ? "✓ right" : "✗ wrong"),
      make("span", { class: "number" }, `reward ${short(response.reward)}`), parts,
      make("span", { class: "number" }, `advantage ${signed(response.advantage)}`),
      response.mean != null && make("span", { class: "number" }, `divergence ${signed(response.mean, 3)}`),
      make("span", { class: "number" }, `${response.tokens.toLocaleString("en")} tokens`)),
    text,
    strongest(response));
}

/** The response token by token: warm where the picture makes the token likelier, cold where it makes it less likely. */
function heated(response) {
  return response.pieces.map((piece, at) => {
    const value = response.divergence[at];
    if (value == null) return make("span", { title: "not finite" }, marked(piece));
    const strength = Math.min(1, Math.abs(value) / hottest);
    const style = strength > 0.03 && `background: rgba(var(--${value > 0 ? "hot" : "cold"}), ${(0.68 * strength).toFixed(2)})`;
    return make("span", { style, title: `${signed(value, 3)} nats, token ${at + 1}` }, marked(piece));
  });
}

/** The tokens that depend most on the picture, for those who do not see colours. */
function strongest(response) {
  const tokens = response.divergence.map((value, at) => [value, response.pieces[at]]).filter(([value]) => value > 0.02);
  if (!tokens.length) return null;
  tokens.sort((a, b) => b[0] - a[0]);
  const shown = tokens.slice(0, 4).map(([value, piece], at) => [at ? " · " : "", make("b", {}, piece.trim() || JSON.stringify(piece)), ` ${signed(value)}`]);
  return make("div", { class: "strongest number" }, "Most from the picture: ", shown.flat());
}
