import { Match, Show, Switch } from "solid-js";
import { isTooBig } from "../lib/fit";
import { plural } from "../lib/format";
import { Button } from "../parts/controls";
import { Dialog } from "../parts/dialog";
import { Problem } from "../parts/states";
import { useCorral } from "../state/corral";
import type { Question } from "./models";

const VERBS: Record<Question["action"], string> = { start: "Start", switch: "Switch", stop: "Stop" };

/** Asks before a switch or stop that would cut requests, that is refused, or that would surely fail. */
export function Ask(props: { question: Question; onClose: () => void; onAnswer: (force: boolean) => void }) {
  const corral = useCorral();
  const name = () => corral.modelName(props.question.model);
  const verb = () => VERBS[props.question.action];
  const tooBig = () => isTooBig(props.question.problem?.code);
  return (
    <Dialog
      title={`${verb()} ${props.question.action === "switch" ? "to " : ""}${name()}?`}
      onClose={props.onClose}
      actions={
        <>
          <Button onClick={props.onClose}>Cancel</Button>
          <Switch
            fallback={
              <Button kind="primary" onClick={() => props.onAnswer(false)}>
                Try it all the same
              </Button>
            }
          >
            <Match when={tooBig()}>
              <Button kind="danger" onClick={() => props.onAnswer(true)}>
                {props.question.running ? `Cut them and ${verb().toLowerCase()} anyway` : `${verb()} anyway`}
              </Button>
            </Match>
            <Match when={props.question.running}>
              <Button kind="danger" onClick={() => props.onAnswer(true)}>
                Cut them and {verb().toLowerCase()}
              </Button>
              <Button kind="primary" onClick={() => props.onAnswer(false)}>
                {verb()} when they have ended
              </Button>
            </Match>
          </Switch>
        </>
      }
    >
      <Show when={props.question.running}>
        <p>
          {plural(props.question.running, "request")} {props.question.running === 1 ? "is" : "are"} being answered at
          the moment.
        </p>
      </Show>
      <Show when={props.question.problem}>{(problem) => <Problem error={problem()} />}</Show>
    </Dialog>
  );
}
