import { Show } from "solid-js";
import { plural } from "../lib/format";
import { Button } from "../parts/controls";
import { Dialog } from "../parts/dialog";
import { Problem } from "../parts/states";
import { useCorral } from "../state/corral";
import type { Question } from "./models";

/** Asks before a switch or stop that would cut requests, or that would surely fail. */
export function Ask(props: { question: Question; onClose: () => void; onAnswer: (force: boolean) => void }) {
  const corral = useCorral();
  const name = () => corral.modelName(props.question.model);
  const verb = () => (props.question.action === "stop" ? "Stop" : "Switch");
  return (
    <Dialog
      title={props.question.action === "stop" ? `Stop ${name()}?` : `Switch to ${name()}?`}
      onClose={props.onClose}
      actions={
        <>
          <Button onClick={props.onClose}>Cancel</Button>
          <Show
            when={props.question.running}
            fallback={
              <Button kind="primary" onClick={() => props.onAnswer(false)}>
                Try it all the same
              </Button>
            }
          >
            <Button kind="danger" onClick={() => props.onAnswer(true)}>
              Cut them and {verb().toLowerCase()}
            </Button>
            <Button kind="primary" onClick={() => props.onAnswer(false)}>
              {verb()} when they have ended
            </Button>
          </Show>
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
