"""The page of one's files: ask for one, see how far it is, fetch it while it lasts."""

from typing import Final
from urllib.parse import parse_qsl

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache

from infra.errors import DomainError
from infra.sharding.placement import HOME
from infra.staff.actions import FormSentBefore, acting, is_token, note
from infra.staff.exports import export_kind, exports_of, request_export, text_of
from infra.staff.models import Export
from infra.staff.pages import need, page, staff_of
from infra.staff.sessions import needs_step_up, to_step_up

SHOWN: Final = 30
_KIND: Final = "orders"


class ExportForm(forms.Form):
    """Why the file is needed; it is kept."""

    reason = forms.CharField(label=gettext_lazy("Reason"), max_length=200, strip=True)


def exports(request: HttpRequest) -> HttpResponse:
    """List one's files; `?` with the query of a list asks for a file of it."""
    query = {name: value for name, value in request.GET.items() if name not in ("before", "page") and value}
    form = ExportForm(request.POST if request.method == "POST" else None)
    if request.method == "POST":
        kind = export_kind(request.POST.get("kind", ""))
        if kind is None:
            raise Http404
        need(request, kind.permission)
        if needs_step_up(request):
            return to_step_up(request.get_full_path())
        token = request.POST.get("token", "")
        if form.is_valid() and is_token(token):
            wanted = dict(parse_qsl(request.POST.get("query", "")))
            staff, now, reason = staff_of(request), timezone.now(), form.cleaned_data["reason"]
            try:
                with acting(
                    staff, kind=f"export.{kind.name}", target=f"export:{kind.name}", reason=reason, token=token, now=now
                ) as action:
                    made = request_export(staff, kind=kind, query=wanted, reason=reason, now=now)
                    action.detail = f"export {made.id}"
            except FormSentBefore:
                messages.warning(request, _("This was sent before; nothing was done twice."))
            except DomainError as refusal:
                messages.error(request, str(refusal))
            return redirect("admin:exports")
    context = {
        "exports": exports_of(staff_of(request), limit=SHOWN),
        "form": form,
        "kind": _KIND,
        "asked": query,
        "query": request.GET.urlencode(),
        "is_asking": bool(request.GET) or request.method == "POST",
        "title": _("Exports"),
    }
    return page(request, "staff/exports.html", context)


@never_cache
def export_file(request: HttpRequest, export_id: int) -> HttpResponse | StreamingHttpResponse:
    """Send one of one's own files."""
    staff = staff_of(request)
    export = Export.objects.using(HOME).filter(id=export_id, staff_id=staff.pk).first()
    now = timezone.now()
    if export is None or export.state != Export.State.READY or export.expires_at <= now:
        raise Http404
    if needs_step_up(request):
        return to_step_up(request.path)
    note(staff, kind="export.fetch", target=f"export:{export.id}", reason=export.reason, now=now)
    answer = StreamingHttpResponse(text_of(export), content_type="text/csv; charset=utf-8")
    answer.headers["Content-Disposition"] = f'attachment; filename="{export.kind}-{export.id}.csv"'
    return answer
