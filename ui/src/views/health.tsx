import { createResource, For, Show } from "solid-js";
import { asFailure } from "../lib/failure";
import { plural } from "../lib/format";
import { Button, CopyButton } from "../parts/controls";
import { Icon, type IconName } from "../parts/icons";
import { Failed, Loading } from "../parts/states";
import { View } from "../parts/view";
import { useCorral } from "../state/corral";
import type { Finding } from "../types";

const MARKS: Record<Finding["status"], { icon: IconName; tone: string; name: string }> = {
  problem: { icon: "error", tone: "bad", name: "Problem" },
  warning: { icon: "warning", tone: "warn", name: "Warning" },
  ok: { icon: "ok", tone: "good", name: "All right" },
};
const ORDER: Finding["status"][] = ["problem", "warning", "ok"];

export function HealthView() {
  const corral = useCorral();
  const [findings, { refetch }] = createResource(async () => (await corral.platform.get("/doctor")).findings);
  const failure = () => (findings.error ? asFailure(findings.error) : null);
  const list = () => (findings.error ? undefined : findings.latest);
  const of = (status: Finding["status"]) => list()?.filter((finding) => finding.status === status) ?? [];
  const note = () => {
    if (!list()) return undefined;
    const parts = [
      of("problem").length && plural(of("problem").length, "problem"),
      of("warning").length && plural(of("warning").length, "warning"),
    ].filter(Boolean);
    return parts.length ? parts.join(", ") : "All is well";
  };
  return (
    <View
      title="Health"
      note={note()}
      actions={
        <Button icon="refresh" disabled={findings.loading} onClick={() => refetch()}>
          {findings.loading ? "Checking" : "Check again"}
        </Button>
      }
    >
      <Show when={!failure()} fallback={<Failed error={failure()!} retry={refetch} />}>
        <Show when={list()} fallback={<Loading what="Looking at this machine" />}>
          <ul class="findings" aria-busy={findings.loading}>
            <For each={ORDER.flatMap(of)}>{(finding) => <One finding={finding} />}</For>
          </ul>
        </Show>
      </Show>
    </View>
  );
}

function One(props: { finding: Finding }) {
  const mark = () => MARKS[props.finding.status] ?? MARKS.warning;
  return (
    <li class={`finding ${props.finding.status}`}>
      <Icon name={mark().icon} class={mark().tone} />
      <span class="unseen">{mark().name}:</span>
      <span class="check">{props.finding.check}</span>
      <div class="grow">
        <p>{props.finding.message}</p>
        <Show when={props.finding.remedy}>
          {(remedy) => (
            <div class="remedy">
              <pre>{remedy()}</pre>
              <CopyButton label={`Copy what mends ${props.finding.check}`} text={remedy} />
            </div>
          )}
        </Show>
      </div>
    </li>
  );
}
