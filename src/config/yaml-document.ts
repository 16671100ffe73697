import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';
import type { ErrorCode, Node } from 'yaml';
import { quoted } from './config-error.ts';

/** A value of the file with the place where it stands (offsets in the text). Plain JavaScript values, never null-prototyped. */
export interface Located {
  value: unknown;
  offset: number;
  /** Members of a map by key, items of a list by index. */
  members: Map<string | number, Member>;
  /** Values in it, each alias counted as all it stands for. */
  size: number;
  /** The value could not be read, and a problem already says so. */
  broken?: boolean;
}

export interface Member extends Located {
  keyOffset: number;
}

/** What the text is not: problems of notation, before any setting is looked at. */
export interface SyntaxProblem {
  offset: number;
  message: string;
}

export interface YamlDocument {
  /** Undefined when the text is not YAML, or holds nothing. */
  root: Located | undefined;
  problems: SyntaxProblem[];
  position: (offset: number) => { line: number; column: number };
}

const misplaced = 'unexpected anchor, alias or tag; put a value that begins with & * or ! in quotes';

const messages: Record<ErrorCode, string> = {
  ALIAS_PROPS: misplaced,
  BAD_ALIAS: misplaced,
  BAD_PROP_ORDER: misplaced,
  MULTIPLE_ANCHORS: misplaced,
  MULTIPLE_TAGS: misplaced,
  TAG_RESOLVE_FAILED: 'tags are not supported; put a value that begins with ! in quotes',
  BAD_COLLECTION_TYPE: 'tags are not supported; put a value that begins with ! in quotes',
  BAD_DIRECTIVE: 'directives (lines that begin with %) are not supported',
  BAD_DQ_ESCAPE: 'unknown escape in double quotes; write \\\\ for a backslash, or use single quotes',
  BAD_INDENT: 'not indented like the lines it belongs to, or a bracket before it is not closed',
  BAD_SCALAR_START: 'a value must not begin with @, ` or %; put it in quotes',
  BLOCK_AS_IMPLICIT_KEY: 'a second `:` on the line; put a value that contains a colon and a space in quotes, and a nested key on a line of its own',
  BLOCK_IN_FLOW: 'only values in brackets or quotes can stand inside brackets',
  DUPLICATE_KEY: 'the key is given twice',
  IMPOSSIBLE: 'not valid YAML',
  KEY_OVER_1024_CHARS: 'a key is longer than 1024 characters',
  MISSING_CHAR: 'a closing quote or bracket, a comma, a colon, or a space before # is missing',
  MULTILINE_IMPLICIT_KEY: 'expected `key: value`; is a colon missing, or a quote or bracket not closed?',
  MULTIPLE_DOCS: 'a second document begins here; remove the `---`',
  NON_STRING_KEY: 'a key must be plain text',
  RESOURCE_EXHAUSTION: 'nested too deeply',
  TAB_AS_INDENT: 'tabs cannot indent; use spaces',
  UNEXPECTED_TOKEN: 'unexpected text; put a value in quotes when it begins with one of [ ] { } , # & * ! | > @ `',
};

/** The schema is six levels deep. */
const deepest = 32;

/** Values that all aliases of a file may stand for together: without a limit ten lines can stand for billions. */
const most = 100_000;

/** Reads one YAML 1.2 document (core schema, so `no` and `on` are text). Never throws for what the text holds. */
export function readYaml(text: string): YamlDocument {
  const lineCounter = new LineCounter();
  // The library compares every pair of keys in a map; `convert` finds duplicates in linear time.
  const document = parseDocument(text, {
    lineCounter,
    schema: 'core',
    merge: false,
    stringKeys: true,
    uniqueKeys: false,
    resolveKnownTags: false,
    prettyErrors: false,
  });
  const problems: SyntaxProblem[] = [...document.errors, ...document.warnings].map(({ pos, code }) => ({ offset: pos[0], message: messages[code] }));
  const root = problems.length > 0 || document.contents === null ? undefined : convert(document.contents, problems);
  const empty = problems.length === 0 && (root?.value ?? null) === null;
  if (empty) problems.push({ offset: 0, message: 'the file is empty; it needs at least listen and virtual_hosts' });
  return {
    root: empty ? undefined : root,
    problems: onePerLine(problems, lineCounter),
    position: (offset) => {
      const { line, col } = lineCounter.linePos(offset);
      return { line: Math.max(1, line), column: Math.max(1, col) };
    },
  };
}

/** One slip makes the parser stumble several times on the same line. */
function onePerLine(problems: SyntaxProblem[], lineCounter: LineCounter): SyntaxProblem[] {
  const first = new Map<number, SyntaxProblem>();
  for (const problem of problems.toSorted((a, b) => a.offset - b.offset)) {
    const { line } = lineCounter.linePos(problem.offset);
    if (!first.has(line)) first.set(line, problem);
  }
  return [...first.values()];
}

function convert(contents: Node, problems: SyntaxProblem[]): Located {
  const anchors = new Map<string, Located>();
  let total = 0;

  function located(node: Node | null, fallback: number, depth: number): Located {
    const offset = node?.range?.[0] ?? fallback;
    const result: Located = { value: null, offset, members: new Map(), size: 1 };
    if (isAlias(node)) return aliased(node.source, offset) ?? { ...result, broken: true };
    if (depth > deepest) {
      problems.push({ offset, message: messages.RESOURCE_EXHAUSTION });
      result.broken = true;
    } else if (isSeq<Node | null>(node)) {
      node.items.forEach((item, index) => result.members.set(index, { ...located(item, offset, depth + 1), keyOffset: offset }));
      result.value = Array.from(result.members.values(), (member) => member.value);
    } else if (isMap<Node | null, Node | null>(node)) {
      for (const pair of node.items) {
        const key = isScalar(pair.key) ? String(pair.key.value) : '';
        const keyOffset = pair.key?.range?.[0] ?? offset;
        if (key === '') {
          problems.push({ offset: keyOffset, message: 'the key before the colon is missing' });
          continue;
        }
        if (result.members.has(key)) problems.push({ offset: keyOffset, message: `${quoted(key)} is given twice` });
        const value = located(pair.value, keyOffset, depth + 1);
        // A value that is left out has no place of its own.
        result.members.set(key, { ...value, keyOffset, offset: value.value === null && !value.broken ? keyOffset : value.offset });
      }
      result.value = Object.fromEntries(Array.from(result.members, ([key, member]) => [key, member.value]));
    } else if (isScalar(node)) result.value = node.value;
    for (const member of result.members.values()) result.size += member.size;
    // Only after its contents: an anchor cannot be used inside itself.
    if (node?.anchor !== undefined) anchors.set(node.anchor, result);
    return result;
  }

  function aliased(name: string, offset: number): Located | undefined {
    const target = anchors.get(name);
    total += target?.size ?? 0;
    if (target === undefined) problems.push({ offset, message: `a value that begins with * must be in quotes: '*${quoted(name).slice(1, -1)}'` });
    else if (total > most) problems.push({ offset, message: 'the aliases (*) stand for too many values' });
    else return target;
    return undefined;
  }

  return located(contents, 0, 0);
}
