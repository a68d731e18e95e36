"""``mlepool completion``: what makes a shell complete its words."""

import os
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["completion"]

BASH = r"""_mlepool() {
    local line typed="${COMP_LINE:0:COMP_POINT}"
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ $line == :files ]]; then
            compopt -o default
        elif [[ -n $line ]]; then
            COMPREPLY+=("$line")
        fi
    done < <("${COMP_WORDS[0]}" __complete --line "$typed" 2>/dev/null)
}
complete -o nosort -F _mlepool mlepool
"""

ZSH = r"""#compdef mlepool
_mlepool() {
    local line
    local -a typed values shown
    typed=("${(@Q)words[2,CURRENT]}")
    for line in "${(@f)$("${words[1]}" __complete "${typed[@]}" 2>/dev/null)}"; do
        if [[ $line == :files ]]; then
            _files
        elif [[ -n $line ]]; then
            values+=("${line%%$'\t'*}")
            shown+=("${line/$'\t'/  -- }")
        fi
    done
    (( $#values )) && compadd -V mlepool -d shown -a values
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _mlepool "$@"
else
    compdef _mlepool mlepool
fi
"""

FISH = r"""function __mlepool_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    for line in (command $words[1] __complete $words[2..] "$current" 2>/dev/null)
        if test "$line" = :files
            __fish_complete_path "$current"
        else
            echo $line
        end
    end
end
complete -c mlepool -f -k -a '(__mlepool_complete)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def completion(
    shell: Annotated[
        str,
        typer.Argument(
            help="bash, zsh or fish; by default yours, as SHELL has it.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Print what makes a shell complete mlepool's words.

    Subcommands, options, hosts, @groups, labels and ids of jobs. For bash put this
    into ~/.bashrc: eval "$(mlepool completion bash)"; for zsh likewise into ~/.zshrc;
    for fish into ~/.config/fish/config.fish: mlepool completion fish | source
    """
    name = shell or Path(os.environ.get("SHELL", "")).name
    if name not in SCRIPTS:
        raise typer.BadParameter("give bash, zsh or fish", param_hint="SHELL")
    print(SCRIPTS[name], end="")
