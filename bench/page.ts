import { figure, judged, type Measured, ratio, type Results } from './results.ts';
import { type Goal, type Row, rows } from './rows.ts';

/** The generated part of docs/benchmarks.md, in Markdown. */

const columns = ['nginx', 'haproxy', 'hitch', 'caddy', 'apache', 'staplegate'];
/** Figures that say under which circumstances the others came about. */
const circumstantial = new Set(['rate', 'stapled', 'busy']);

const begin = '<!-- begin of what `npm run bench -- --write-docs` wrote -->';
const end = '<!-- end of it -->';

/** @throws Error when the page lacks the two marks */
export function withFigures(page: string, results: Results): string {
  const from = page.indexOf(begin);
  const to = page.indexOf(end);
  if (from < 0 || to < from) throw new Error(`docs/benchmarks.md must have the lines "${begin}" and "${end}"`);
  return `${page.slice(0, from + begin.length)}\n\n${tables(results)}\n\n${page.slice(to)}`;
}

function tables(results: Results): string {
  const measured = Object.entries(rows).flatMap(([name, row]) => (results[name] ? [{ row, measured: results[name] }] : []));
  const lines = measured.flatMap(({ row, measured: outcome }) =>
    Object.keys(row.figures).flatMap((name) => (circumstantial.has(name) ? [] : [line(row, outcome, name)])),
  );
  return [
    `| work | ${columns.map((name) => (name === 'staplegate' ? 'Staplegate' : name)).join(' | ')} | × nginx | goal |`,
    `|---|${columns.map(() => '--:|').join('')}--:|---|`,
    ...lines,
    '',
    ...measured.flatMap(({ row, measured: outcome }) => remarks(row, outcome)),
    '',
    circumstances(measured.map(({ measured: outcome }) => outcome)),
  ].join('\n');
}

const rounded = (value: number): string => value.toLocaleString('en', { maximumSignificantDigits: 3 });

function line(row: Row, measured: Measured, name: string): string {
  const cells = columns.map((peer) => {
    const value = figure(measured, peer, name);
    return value === undefined ? '–' : rounded(value);
  });
  const times = ratio(measured, 'staplegate', 'nginx', name);
  const goals = row.goals.filter((goal) => goal.figure === name).map((goal) => verdict(measured, goal));
  const [first] = Object.keys(row.figures);
  const title = name === first ? row.title : '';
  return `| ${title}${title ? '<br>' : ''}${row.figures[name]} | ${cells.join(' | ')} | ${times?.toFixed(2) ?? ''} | ${goals.join('<br>')} |`;
}

function verdict(measured: Measured, goal: Goal): string {
  const judgement = judged(measured, goal);
  const limit = `${goal.most === undefined ? `≥ ${goal.least}` : `≤ ${goal.most}`}${goal.times === undefined ? '' : ` × ${goal.times}`}`;
  if (!judgement) return `${limit}: not measured`;
  return judgement.met ? `${limit}: met (${judgement.reached.toFixed(2)})` : `**${limit}: missed (${judgement.reached.toFixed(2)})**`;
}

/** What the table has no column for. */
function remarks(row: Row, measured: Measured): string[] {
  const [first = ''] = Object.keys(row.figures);
  const floors = Object.keys(measured.peers).filter((peer) => peer.startsWith('floor-'));
  const floor = floors.map((peer) => `${peer.slice('floor-'.length)} ${rounded(figure(measured, peer, first) ?? NaN)}`);
  const absent = Object.entries(measured.absent).map(([peer, reason]) => `${peer}: ${reason}`);
  return [
    ...(floor.length === 0 ? [] : [`- ${row.title}: Node's TLS alone, ${floor.join(', ')} ${row.figures[first]}.`]),
    ...(absent.length === 0 ? [] : [`- ${row.title}: ${absent.join('; ')}.`]),
  ];
}

function circumstances(all: readonly Measured[]): string {
  const versions = new Map(all.flatMap(({ versions: each }) => Object.entries(each).filter(([peer]) => !peer.startsWith('floor-'))));
  const unique = (values: string[]): string => [...new Set(values)].join('; ');
  return [
    `Measured ${unique(all.map(({ date }) => date))} on ${unique(all.map(({ machine }) => machine))}, at commits ${unique(all.map(({ commit }) => commit))}; benchmarks.json says which row at which.`,
    `${[...versions].map(([peer, version]) => `${peer}: ${version}`).join('; ')}.`,
  ].join('\n');
}
