"""Pages that belong to no part of the shop: showing the second factor again, saved views."""

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django_otp import match_token

from infra.staff.pages import page, staff_of
from infra.staff.sessions import note_proof
from infra.staff.views_saved import forget_view, save_view


class StepUpForm(forms.Form):
    """A fresh code of the authenticator app."""

    otp_token = forms.CharField(
        label=gettext_lazy("Code of your authenticator app"),
        max_length=8,
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric", "autofocus": True}),
    )


def step_up(request: HttpRequest) -> HttpResponse:
    """Ask for the second factor again, then go back to where it was needed (`?next=`, a page of this site)."""
    wanted = request.POST.get("next", request.GET.get("next", ""))
    is_ours = url_has_allowed_host_and_scheme(wanted, allowed_hosts=None, require_https=False)
    back_to = wanted if is_ours and wanted.startswith(reverse("admin:index")) else reverse("admin:index")
    form = StepUpForm(request.POST or None)
    if form.is_valid():
        if match_token(staff_of(request), form.cleaned_data["otp_token"]) is not None:
            note_proof(request)
            return redirect(back_to)
        form.add_error("otp_token", _("This code is wrong, or was used already: wait for the next one."))
    return page(request, "staff/step_up.html", {"form": form, "next": back_to, "title": _("Confirm that it is you")})


def saved_views(request: HttpRequest) -> HttpResponse:
    """Keep the query of a list under a name, or forget one; back to the list."""
    list_page = request.POST.get("page", "")
    if request.method == "POST" and "forget" in request.POST:
        forget_view(staff_of(request), request.POST["forget"])
    elif request.method == "POST":
        refusal = save_view(
            staff_of(request), page=list_page, name=request.POST.get("name", ""), query=request.POST.get("query", "")
        )
        if refusal:
            messages.error(request, refusal)
    back_to = request.POST.get("back", "")
    is_ours = url_has_allowed_host_and_scheme(back_to, allowed_hosts=None)
    return redirect(back_to if is_ours and back_to.startswith(reverse("admin:index")) else "admin:index")
